"""JSON Schemas from users, MCP servers and chat requests: what is refused, what is enforced, and that nothing hangs."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrft.spec.json_schema import SchemaFault, read_schema

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def tower(keyword: str, leaf: dict[str, Any], *, floors: int, **beside: Any) -> dict[str, Any]:
    """Each floor asks the one below twice."""
    floor: dict[str, Any] = {"floor0": leaf}
    for n in range(1, floors + 1):
        floor[f"floor{n}"] = {keyword: [{"$ref": f"#/$defs/floor{n - 1}"}] * 2, **beside}
    return {"$defs": floor, "$ref": f"#/$defs/floor{floors}"}


def fault_of(schema: dict[str, Any]) -> str:
    with pytest.raises(SchemaFault) as refused:
        read_schema(schema)
    return str(refused.value)


@pytest.mark.parametrize(
    "reference",
    [
        "#/$defs/missing",
        "#missing",
        "http://127.0.0.1:1/schema.json",
        "file:///etc/passwd",
        "other.json",
        "#/properties",
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_with_its_name(reference: str) -> None:
    assert reference in fault_of({"type": "object", "properties": {"a": {"$ref": reference}}})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"if": {"not": {"$ref": "#"}}},
    ],
)
def test_a_reference_in_a_circle_is_refused(schema: dict[str, Any]) -> None:
    assert "comes back to the place where it started" in fault_of(schema)


def test_a_schema_of_nested_things_refers_to_itself() -> None:
    tree = read_schema(
        {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "additionalProperties": False}
    )
    value: dict[str, Any] = {}
    for _ in range(90):
        value = {"left": value, "right": {}}
    assert tree.fault(value) is None
    assert "unexpected" in (tree.fault({"left": {"left": {"middle": 1}}}) or "")


@pytest.mark.parametrize(
    "schema",
    [
        tower("allOf", {"type": "object"}, floors=28),
        tower("anyOf", {"type": "string"}, floors=28),
        tower("oneOf", {"type": "string"}, floors=28),
        tower("allOf", {"properties": {"a": True}}, floors=12, unevaluatedProperties=False),
        {"$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(200)} | {"200": {}}, "$ref": "#/$defs/0"},
    ],
)
def test_a_schema_whose_parts_multiply_is_refused_before_anything_is_checked(schema: dict[str, Any]) -> None:
    started = time.monotonic()
    fault_of(schema)
    assert time.monotonic() - started < 30, "it would take hours"


def test_alternatives_that_refer_to_the_whole_are_checked_as_deep_as_is_quick() -> None:
    both = [
        {"type": "object", "properties": {"op": {"const": op}, "of": {"$ref": "#/$defs/e"}}, "required": ["op", "of"]}
        for op in ("and", "or", "not", "xor")
    ]
    schema = read_schema({"$defs": {"e": {"oneOf": [*both, {"type": "string"}]}}, "$ref": "#/$defs/e"})

    def nested(depth: int, leaf: Any) -> Any:
        return leaf if depth == 0 else {"op": "xor", "of": nested(depth - 1, leaf)}

    assert schema.fault(nested(5, "x")) is None
    assert schema.fault(nested(5, 1)) is not None
    assert "nested too deep" in (schema.fault(nested(60, 1)) or "")


@pytest.mark.parametrize(
    ("schema", "fitting", "unfit"),
    [
        ({"multipleOf": 0.01}, [0.07, 1.13, 19.99, 4.35, 0, -0.29], [0.075, 0.001]),
        ({"pattern": r"^\p{L}+$"}, ["aé", "Ω"], ["a1", ""]),
        ({"pattern": r"^(?!admin)\w+$"}, ["user"], ["admin1"]),
        ({"pattern": r"^\d+$"}, ["42"], ["42\n", "٣"]),
        ({"$schema": DRAFT_7, "items": [{"type": "string"}, {"type": "integer"}]}, [["a", 1], ["a"]], [["a", "b"]]),
        ({"items": [{"type": "string"}], "additionalItems": False}, [["a"]], [["a", 1], [1]]),
        ({"minimum": 3, "exclusiveMinimum": True}, [4], [3]),
        ({"$schema": "http://example.com/own", "type": "integer"}, [1], ["1"]),
        ({"$id": "https://example.com/a", "$defs": {"b": {"$anchor": "c", "type": "null"}}, "$ref": "#c"}, [None], [1]),
        ({"components": {"schemas": {"b": {"pattern": "^a$"}}}, "$ref": "#/components/schemas/b"}, ["a"], ["b"]),
        ({"type": "string"}, ["\ud800"], [1]),
        ({"type": "integer"}, [10**200], [0.5]),
    ],
)
def test_values_are_held_against_the_schema_as_its_draft_means_it(
    schema: dict[str, Any], fitting: list[Any], unfit: list[Any]
) -> None:
    read = read_schema(schema)
    assert [value for value in fitting if not read.fits(value) or read.fault(value) is not None] == []
    assert [value for value in unfit if read.fits(value) or read.fault(value) is None] == []


@pytest.mark.parametrize(
    ("schema", "place", "fitting", "unfit"),
    [
        ({"properties": {"a": {"type": "string", "pattern": "^(a+"}}}, "properties.a.pattern", {"a": "b"}, {"a": 1}),
        (
            {"properties": {"a": {"pattern": r"(?P<x>a)(?P=x)"}}, "required": ["a"]},
            "properties.a.pattern",
            {"a": ""},
            {},
        ),
        ({"patternProperties": {"^(x": {}}, "additionalProperties": False, "required": ["a"]}, "^(x", {"a": 1}, {}),
        ({"$dynamicRef": "#a", "$dynamicAnchor": "a", "required": ["a"]}, "$dynamicRef", {"a": 1}, {}),
        ({"$schema": "http://example.com/own", "required": ["a"]}, "$schema", {"a": 1}, {}),
        ({"properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}, "required": ["a"]}, "a.pattern", {"a": "b"}, {}),
    ],
)
def test_what_cannot_be_compiled_is_left_out_and_said_and_the_rest_is_enforced(
    schema: dict[str, Any], place: str, fitting: Any, unfit: Any
) -> None:
    read = read_schema(schema)
    assert len(read.unenforced) == 1 and place in read.unenforced[0]
    assert read.fits(fitting) and not read.fits(unfit)


@pytest.mark.parametrize(
    "pattern", [r"^(a+)+$", r"^(a|a)*$", r"(a{1,100}){1,100}b", r"(?=.*\d)x", r"^(a|a)*\1?$", r"(?=a*b)(?=a*c)a"]
)
def test_an_expression_that_explodes_ends_on_any_text(pattern: str) -> None:
    read = read_schema({"items": {"pattern": pattern}})
    started = time.monotonic()
    assert not read.fits(["a" * 30_000 + "!"] * 20)
    assert time.monotonic() - started < 60, "it would take hours"


def test_many_expressions_share_one_budget() -> None:
    read = read_schema({"allOf": [{"pattern": f"(a{{1,30}}){{1,{n}}}b"} for n in range(10, 80)]})
    assert "too long to be searched" in (read.fault("a" * 30_000 + "b") or "")
    assert read.fits("a" * 20 + "b")


def test_an_expression_of_no_weight_is_searched_in_a_long_text() -> None:
    assert read_schema({"pattern": "^[a-z]+$"}).fits("a" * 1_000_000)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"f": {"n": "x"}}, 'f.n: "x" is not of type "integer"'),
        ({"f": None, "q": 1}, "Additional properties are not allowed ('q' was unexpected)"),
        ({}, '"f" is a required property'),
        ({"f": 3}, 'f: 3 is not of type "object" or f: 3 is not of type "null"'),
        ({"f": None, "g": ["ab", "b"]}, "g[1]: does not match the pattern '^a'"),
        ([], '[] is not of type "object"'),
    ],
)
def test_a_fault_says_where_and_what(value: Any, said: str) -> None:
    optional = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema = {
        "type": "object",
        "properties": {
            "f": {"anyOf": [optional, {"type": "null"}]},
            "g": {"type": "array", "items": {"pattern": "^a"}},
        },
        "required": ["f"],
        "additionalProperties": False,
    }
    assert read_schema(schema).fault(value) == said


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "text"}, "type: "),
        ({"properties": {"a": {"type": 3}}}, "properties.a.type: "),
        ({"required": "a"}, "required: "),
        ({"properties": {"a": {"multipleOf": 0}}}, "properties.a.multipleOf: "),
        ({"anyOf": []}, "anyOf: "),
        ({"default": float("nan")}, "default: "),
        ({"enum": ["\ud800"]}, "enum[0]: "),
        ({"$ref": 3}, "$ref: "),
    ],
)
def test_what_is_no_schema_is_refused_with_the_place(schema: dict[str, Any], said: str) -> None:
    assert fault_of(schema).startswith(said)


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    assert "deep" in fault_of(schema)


def test_a_value_that_is_nested_too_deep_is_refused_and_not_cut() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert "nested too deep" in (read_schema({}).fault(value) or "")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": [{"a": n} for n in range(500)]}}, [{"a": -1}] * 20_000),
        ({"items": {"enum": [*map(str, range(20_000)), None]}}, ["x"] * 20_000),
        ({"items": {"const": list(range(1500))}}, [list(range(1500))] * 1000),
        ({"patternProperties": {f"(a{{1,20}}){{1,{n}}}b": {} for n in range(1, 90)}}, {"a" * 1000: 1}),
    ],
)
def test_comparing_much_with_much_is_refused(schema: dict[str, Any], value: Any) -> None:
    started = time.monotonic()
    assert "to be checked against" in (read_schema(schema).fault(value) or "")
    assert time.monotonic() - started < 30


def test_a_value_that_is_too_large_to_explain_is_still_refused() -> None:
    read = read_schema({"anyOf": [{"type": "string"}] * 200})
    assert read.fault({"a": ["x" * 10] * 30_000}) == "it does not fit the schema"


KEYWORDS = [
    *("type", "properties", "items", "required", "enum", "const", "pattern", "patternProperties", "multipleOf", "not"),
    *("additionalProperties", "unevaluatedProperties", "unevaluatedItems", "anyOf", "allOf", "oneOf", "if", "then"),
    *("$ref", "$defs", "definitions", "$id", "id", "$schema", "$anchor", "$dynamicRef", "$dynamicAnchor", "contains"),
    *("prefixItems", "additionalItems", "dependencies", "dependentSchemas", "propertyNames", "minimum", "format"),
    *("exclusiveMinimum", "minContains", "uniqueItems", "contentSchema", "contentEncoding", "default", "$recursiveRef"),
]
WORDS = st.sampled_from(
    [
        *("object", "string", "array", "a", "#", "#/$defs/a", "#/properties/a", "", "^a", "(", "(?=a)", "http://x/y"),
        DRAFT_7,
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS) | WORDS, inner, max_size=4),
    max_leaves=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=st.dictionaries(st.sampled_from(KEYWORDS) | WORDS, ANYTHING, max_size=6), values=st.lists(ANYTHING))
def test_whatever_is_given_as_a_schema_is_read_or_refused_and_whatever_as_a_value_is_checked(
    schema: dict[str, Any], values: list[Any]
) -> None:
    try:
        read = read_schema(schema)
    except SchemaFault:
        return
    for value in values:
        assert read.fits(value) == (read.fault(value) is None)


@pytest.mark.parametrize("own", [5, "(", "^b", {"type": "string"}, None])
def test_a_users_key_of_the_name_that_patterns_get_inside_changes_nothing(own: Any) -> None:
    plain = read_schema({"agentrft:pattern": own, "properties": {"a": {"agentrft:pattern": own, "pattern": "^c"}}})
    assert plain.fits({"a": "c"}) and not plain.fits({"a": "b"})
    assert read_schema({"agentrft:pattern": own}).fits("anything")
    named = read_schema({"properties": {"agentrft:pattern": {"type": "string"}}})
    assert named.fits({"agentrft:pattern": "a"}) and not named.fits({"agentrft:pattern": 1})
