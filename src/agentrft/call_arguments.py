"""A tool call's arguments, as clients, data sets and models write them, read by one rule everywhere."""

from typing import Any

from agentrft import wire


class ArgumentsError(ValueError):
    """What is given as arguments is no JSON object; the text says what it is instead."""


def read_arguments(given: Any, *, lossy: bool = False) -> dict[str, Any]:
    """The arguments as an object. Nothing at all, blank text, and null are a call without arguments: `{}`.

    Args:
        given: JSON text, or the object itself.
        lossy: as in `wire.parse`.

    Raises:
        ArgumentsError: it is something else, such as a list, or text that is no JSON.
    """
    if given is None or (isinstance(given, str) and given.strip() in ("", "null")):
        return {}
    value = given
    if isinstance(given, str):
        try:
            value = wire.parse(given, lossy=lossy, unique_keys=not lossy)
        except wire.WireError as error:
            raise ArgumentsError(f"expected the JSON text of an object: {error}") from error
    if isinstance(value, dict):
        return value
    if isinstance(given, str):
        raise ArgumentsError(f"expected the JSON text of an object, found {_JSON_TYPES[type(value)]}")
    raise ArgumentsError(f"expected a JSON string or an object, found {_JSON_TYPES.get(type(value), 'another type')}")


_JSON_TYPES: dict[type, str] = {
    list: "a list",
    str: "text in quotation marks",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
