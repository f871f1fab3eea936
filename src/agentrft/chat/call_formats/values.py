"""Arguments that are written without quotes: what they are is what the tool's schema declares them to be."""

from collections.abc import Iterator, Mapping
from typing import Any

from agentrft.chat.call_formats.base import Tools
from agentrft.chat.hermes import DECODER

# Templates that print a value as Python does.
_PYTHON = {"True": True, "False": False, "None": None}
_DEEPEST = 8


def declared(tools: Tools, name: str) -> Mapping[str, Any]:
    """The schemas of a function's parameters, by their names; empty where it is not known."""
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function, Mapping) and function.get("name") == name:
            schema = function.get("parameters")
            properties = schema.get("properties") if isinstance(schema, Mapping) else None
            return properties if isinstance(properties, Mapping) else {}
    return {}


def typed(text: str, schema: Any = None) -> Any:
    """The value that `text` spells.

    Text where the schema says string and nothing else; else what JSON (or Python's `True`, `False`, `None`) makes of
    it, if that is of a declared type; else, or without a schema where it is no JSON, text again.
    """
    types = set(_types(schema, 0)) if isinstance(schema, Mapping) else set()
    if types == {"string"}:
        return text
    value = _value(text.strip())
    if value is _NO_VALUE:
        return text
    return value if not types or any(_is(value, one) for one in types) or "string" not in types else text


def _types(schema: Any, depth: int) -> Iterator[str]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    kind = schema.get("type")
    yield from [kind] if isinstance(kind, str) else [one for one in kind or [] if isinstance(one, str)]
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(key) or []:
            yield from _types(branch, depth + 1)
    if kind is None:
        values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        yield from (next(name for name in _CHECKS if _is(value, name)) for value in values)


class _NoValue:
    """`None` is a value."""


_NO_VALUE = _NoValue()


def _value(text: str) -> Any:
    if text in _PYTHON:
        return _PYTHON[text]
    try:
        value, end = DECODER.raw_decode(text)
    # RecursionError: a model can nest brackets deeper than Python's JSON decoder goes.
    except (ValueError, RecursionError):
        return _NO_VALUE
    return value if end == len(text) else _NO_VALUE


_CHECKS: dict[str, Any] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _is(value: Any, kind: str) -> bool:
    check = _CHECKS.get(kind)
    return check is not None and check(value)
