"""Arguments for a trial call, made from a tool's JSON Schema: what it says itself, else the least that fits."""

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


def example_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """A value for every required argument; for others where the schema gives one.

    They need not fit: a `pattern` is not solved. `argument_fault` says whether they do.
    """
    value = _value(schema, schema, 0)
    return value if isinstance(value, dict) else {}


def _value(schema: Any, root: dict[str, Any], depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEEPEST:
        return TEXT
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _value(_followed(schema["$ref"], root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _value(schema[key][0], root, depth + 1)
    if schema.get("allOf"):
        return _merged([_value(part, root, depth + 1) for part in schema["allOf"]])
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    match kinds[0] if isinstance(kinds, list) else kinds:
        case "object":
            return _object(schema, root, depth)
        case "array":
            return [_value(schema.get("items"), root, depth + 1)] * max(1, schema.get("minItems", 1))
        case "integer" | "number" as kind:
            return _number(schema, kind)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = TEXTS.get(schema.get("format", ""), TEXT)
            return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]


def _object(schema: dict[str, Any], root: dict[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    says = ("examples", "default", "const")
    wanted = [name for name in properties if name in required or any(key in properties[name] for key in says)]
    wanted += [name for name in required if name not in properties]
    return {name: _value(properties.get(name), root, depth + 1) for name in wanted}


def _number(schema: dict[str, Any], kind: str) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1) - 1 if "exclusiveMaximum" in schema else low)
    value = min(low, high)
    step = schema.get("multipleOf")
    if step:
        value = -(-value // step) * step
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
