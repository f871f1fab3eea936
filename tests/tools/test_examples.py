"""Arguments for trial calls, made from schemas."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft.tools import argument_fault, example_arguments


def required(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"type": "object"}, {}),
        (required(a={"type": "string"}), {"a": "example"}),
        (required(a={"type": "string", "enum": ["x", "y"]}), {"a": "x"}),
        (required(a={"type": "integer", "minimum": 5}), {"a": 5}),
        (required(a={"type": "integer", "maximum": -3}), {"a": -3}),
        (required(a={"type": "integer", "exclusiveMinimum": 5, "multipleOf": 4}), {"a": 8}),
        (required(a={"type": "number"}), {"a": 1}),
        (required(a={"type": "boolean"}), {"a": True}),
        (required(a={"type": ["null", "string"]}), {"a": None}),
        (required(a={"type": "array", "items": {"type": "string"}, "minItems": 2}), {"a": ["example", "example"]}),
        (required(a={"type": "string", "format": "date"}), {"a": "2026-01-15"}),
        (required(a={"type": "string", "minLength": 9, "maxLength": 9}), {"a": "examplexx"}),
        (required(a={"anyOf": [{"type": "integer"}, {"type": "null"}]}), {"a": 1}),
        (required(a={"const": "fixed"}), {"a": "fixed"}),
        (required(a=required(b={"type": "string"})), {"a": {"b": "example"}}),
        ({**required(a={"$ref": "#/$defs/x"}), "$defs": {"x": {"type": "integer"}}}, {"a": 1}),
        (
            required(a={"allOf": [required(b={"type": "integer"}), required(c={"type": "boolean"})]}),
            {"a": {"b": 1, "c": True}},
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer", "default": 4}}}, {"b": 4}),
        ({"type": "object", "examples": [{"q": "best"}]}, {"q": "best"}),
        (required(a={"type": "string", "examples": ["mine"]}), {"a": "mine"}),
    ],
)
def test_what_a_schema_says_itself_comes_first_and_then_the_least_that_fits(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    assert example_arguments(schema) == arguments
    assert argument_fault(schema, arguments) is None


def test_a_schema_that_contains_itself_ends() -> None:
    schema = {**required(a={"$ref": "#/$defs/x"}), "$defs": {"x": required(a={"$ref": "#/$defs/x"})}}
    assert isinstance(example_arguments(schema), dict)


LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer", "minimum": -2, "maximum": 3},
        {"type": "number"},
        {"type": "boolean"},
        {"enum": [1, "a"]},
        {"type": "string", "minLength": 20},
        {"type": "null"},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda one: {"type": "array", "items": one, "minItems": 1}, inner)
        | st.builds(lambda some: required(**some), st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
    ),
)


@given(st.dictionaries(st.sampled_from("xyz"), SCHEMAS, max_size=3))
def test_plain_schemas_are_always_fitted(properties: dict[str, Any]) -> None:
    schema = required(**properties)
    assert argument_fault(schema, example_arguments(schema)) is None


SELF = {"type": "object", "properties": {c: {"$ref": "#"} for c in "abcdefgh"}, "required": list("abcdefgh")}


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        (SELF, 50_000),
        (required(a={"type": "array", "minItems": 10**12}), 2_000),
        (required(a={"type": "string", "minLength": 10**12}), 11_000),
        (required(a={"type": "integer", "multipleOf": 1e-320}), 100),
        ({"type": "object", "properties": {"a": True, "b": False}, "required": ["a"]}, 100),
        (required(a={"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}), 100),
        (required(a={"type": "array", "prefixItems": [{"type": "boolean"}], "minItems": 3}), 100),
    ],
)
def test_a_schema_that_asks_for_very_much_gets_a_little(schema: dict[str, Any], size: int) -> None:
    assert len(json.dumps(example_arguments(schema))) < size
