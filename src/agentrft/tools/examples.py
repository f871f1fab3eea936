"""Arguments for a trial call, made from a tool's JSON Schema: what it says itself, else the least that fits."""

import math
from typing import Any

TEXT = "example"
TEXTS = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
DEEPEST = 16
# A schema of others may ask for more than anyone wants to send.
MAX_VALUES = 1000
MAX_ITEMS = 100
MAX_LENGTH = 10_000


def example_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """A value for every required argument; for others where the schema gives one.

    They need not fit: a `pattern` is not solved. `argument_fault` says whether they do.
    """
    value = _Maker(schema).value(schema, 0)
    return value if isinstance(value, dict) else {}


class _Maker:
    """Makes values of the parts of one schema."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = MAX_VALUES

    def value(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, dict) or depth > DEEPEST or self._left < 0:
            return TEXT
        if isinstance(schema.get("examples"), list) and schema["examples"]:
            return schema["examples"][0]
        for key in ("default", "const"):
            if key in schema:
                return schema[key]
        if schema.get("enum"):
            return schema["enum"][0]
        if "$ref" in schema:
            return self.value(_followed(schema["$ref"], self._root), depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.value(schema[key][0], depth + 1)
        if schema.get("allOf"):
            return _merged([self.value(part, depth + 1) for part in schema["allOf"]])
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        match kinds[0] if isinstance(kinds, list) else kinds:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number" as kind:
                return _number(schema, kind)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                text = TEXTS.get(schema.get("format", ""), TEXT)
                return text.ljust(min(schema.get("minLength", 0), MAX_LENGTH), "x")[: schema.get("maxLength")]

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        wanted = [name for name in properties if name in required or _says_itself(properties[name])]
        wanted += [name for name in required if name not in properties]
        return {name: self.value(properties.get(name), depth + 1) for name in wanted}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        items = schema.get("items")
        places = items if isinstance(items, list) else schema.get("prefixItems", [])
        found = [self.value(place, depth + 1) for place in places]
        missing = min(max(1, schema.get("minItems", 1)), MAX_ITEMS) - len(found)
        return found + [self.value(items, depth + 1)] * missing if missing > 0 else found


def _says_itself(schema: Any) -> bool:
    return isinstance(schema, dict) and any(key in schema for key in ("examples", "default", "const"))


def _number(schema: dict[str, Any], kind: str) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1) - 1 if "exclusiveMaximum" in schema else low)
    value = min(low, high)
    step = schema.get("multipleOf")
    if step:
        whole = -(-value // step) * step
        value = whole if math.isfinite(whole) else value
    return int(value) if kind == "integer" else value


def _merged(parts: list[Any]) -> Any:
    if not all(isinstance(part, dict) for part in parts):
        return parts[0]
    return {name: value for part in parts for name, value in part.items()}


def _followed(reference: str, root: dict[str, Any]) -> Any:
    """The part of the schema that `#/$defs/name` names; {} where there is none."""
    place: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        place = place.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(place, dict) and step else place
    return place
