"""A call's arguments against the tool's JSON Schema: a short text that the model can learn from."""

from collections.abc import Mapping
from typing import Any

from agentrft.spec.json_schema import read_schema
from agentrft.wire import WireError, parse


def unenforced_parts(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a schema the model is shown and its arguments are not held against, each with the reason.

    Args:
        schema: one in which `schema_fault` finds none.
    """
    return read_schema(schema).unenforced


def argument_fault(schema: Mapping[str, Any], arguments: dict[str, Any]) -> str | None:
    """What is wrong with `arguments`; None if they fit.

    Args:
        schema: one in which `schema_fault` finds none.
    """
    return read_schema(schema).fault(arguments)


def fits_schema(text: str, schema: Mapping[str, Any] | None) -> bool:
    """Whether a text is JSON that fits; any text fits None."""
    if schema is None:
        return True
    try:
        value = parse(text, lossy=True)
    except WireError:
        return False
    return read_schema(schema).fits(value)
