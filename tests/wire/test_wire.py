"""What comes in as JSON can be encoded, stored and sent again, or it is refused with its place."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft import wire
from agentrft.wire import MAX_DEPTH, MAX_DIGITS, WireError

LONE = "\ud83d"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1" * 5000, "a number of 5000 digits; at most 300"),
        ("-" + "1" * 301, "a number of 302 digits; at most 300"),
        ("[" * 10_000 + "]" * 10_000, "nested more than 100 deep"),
        ("[" * 101 + "]" * 101, "nested more than 100 deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested more than 100 deep"),
        ('{"price": NaN}', "price: NaN is not a finite number"),
        ('{"a": [{"b c": -Infinity}]}', 'a[0]["b c"]: -Infinity is not a finite number'),
        ('{"rate": 1e999}', "rate: 1e999 is too large for a number"),
        ('{"a": ["\\ud83d "]}', "a[0]: half of a surrogate pair, which has no UTF-8 form"),
        ('{"\\udc00": 1}', '["\ufffd"]: half of a surrogate pair, which has no UTF-8 form'),
        (f'"{LONE}"', "half of a surrogate pair, which has no UTF-8 form"),
        ("{", "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "not valid JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_place(text: str, problem: str):
    with pytest.raises(WireError) as error:
        wire.parse(text)
    assert str(error.value) == problem


@pytest.mark.parametrize(
    "text",
    [
        "9" * MAX_DIGITS,
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '"\\ud83d\\ude00"',
        '"\\\\ud83d"',
        "1e-999",
        "\ufeff1",
        "0.1",
    ],
)
def test_what_is_within_the_bounds_comes_through(text: str):
    value = wire.parse(text.encode())
    assert value == json.loads(text.removeprefix("\ufeff"))
    assert wire.parse(wire.dump(value)) == value


def test_a_key_that_is_there_twice_is_refused_where_that_is_asked_for():
    text = '{"a": {"b": 1, "b": 2}}'
    assert wire.parse(text) == {"a": {"b": 2}}
    with pytest.raises(WireError, match=r"a\.b: the key is there twice"):
        wire.parse(text, unique_keys=True)


def test_half_a_surrogate_pair_becomes_the_replacement_character_where_others_wrote_it():
    assert wire.parse('{"\\ud83d": "a\\udc00b"}', lossy=True) == {"\ufffd": "a\ufffdb"}
    with pytest.raises(WireError):
        wire.parse("[NaN]", lossy=True)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('{"a": 1}'.encode("utf-16"), "the text is UTF-16; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "the text is UTF-16 or UTF-32; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-32"), "the text is UTF-32; save it as UTF-8"),
        ('{"a": "é"}'.encode("latin-1"), r"not UTF-8 \(byte 0xe9 at position 7\); save it as UTF-8"),
        ('{"a": "é"}'.encode("utf-16-le"), "the text is UTF-16 or UTF-32; save it as UTF-8"),
    ],
)
def test_another_encoding_is_named(data: bytes, problem: str):
    with pytest.raises(WireError, match=problem):
        wire.parse(data)


def test_a_value_that_is_no_json_is_refused_with_its_place():
    cyclic: list[object] = []
    cyclic.append(cyclic)
    wide: list[object] = [1]
    for _ in range(40):
        wide = [wide, wide]
    for value, problem in [
        ({"a": {1, 2}}, "a: a value of type set, which JSON has not"),
        ({"a": {1: 2}}, "a: the key 1 is not text; put it in quotation marks"),
        ([math.inf], r"\[0\]: inf is not a finite number"),
        ({"n": 10**5000}, "n: a number of more than 300 digits"),
        (cyclic, "nested more than 100 deep"),
        (wide, "more than 2000000 values"),
    ]:
        with pytest.raises(WireError, match=problem):
            wire.check(value)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.just(LONE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_LIKE)
def test_whatever_is_parsed_or_cleaned_can_be_written_again(value: object):
    text = json.dumps(value)
    for data in (text, json.dumps(value, ensure_ascii=False)):
        try:
            found = wire.parse(data, lossy=True)
        except WireError:
            found = wire.clean(json.loads(data))
        written = wire.dump(found)
        assert wire.parse(written.encode(), unique_keys=False) == found
