"""Whether a JSON Schema describes the arguments of a tool."""

from collections.abc import Mapping
from typing import Any

from agentrft.spec.json_schema.reading import SchemaFault, read_schema


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Why `schema` describes no arguments; None if it does."""
    try:
        read_schema(schema)
    except SchemaFault as fault:
        return str(fault)
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        return f"type: arguments are an object, not {kinds!r}"
    return None
