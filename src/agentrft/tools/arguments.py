"""A call's arguments against the tool's JSON Schema: a short text that the model can learn from."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_CHARACTERS = 300


def schema_fault(schema: dict[str, Any]) -> str | None:
    """Why `schema` describes no arguments; None if it does."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"{_path(error.absolute_path) or 'parameters'}: {error.message}"[:MAX_CHARACTERS]
    if schema.get("type", "object") != "object":
        return f"type: arguments are an object, not {schema['type']!r}"
    try:
        next(_validator(json.dumps(schema)).iter_errors({}), None)
    except Unresolvable as error:
        return f"{error}; only references inside the schema are followed"
    return None


def argument_fault(schema: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    """What is wrong with `arguments`; None if they fit.

    Args:
        schema: one in which `schema_fault` finds none.
    """
    error = best_match(_validator(json.dumps(schema)).iter_errors(arguments))
    if error is None:
        return None
    where = _path(error.absolute_path)
    text = f"{where}: {error.message}" if where else error.message
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def fits_schema(text: str, schema: Mapping[str, Any] | None) -> bool:
    """Whether a text is JSON that fits; any text fits None."""
    if schema is None:
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return _validator(json.dumps(schema)).is_valid(value)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    # With a registry of its own nothing is fetched from the network.
    return Draft202012Validator(json.loads(schema), registry=Registry())


def _path(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
