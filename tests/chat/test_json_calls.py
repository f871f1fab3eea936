"""The form of calls is learned from one that a template wrote, and whatever a model writes in it is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from renderers.base import ToolCallParseStatus

from agentrft.chat.call_formats.json_calls import CallFormat, learn

NAME, ARGUMENTS = "Zw0ne", {"Zw0ne": "Qw7vo"}
SHOWN = {
    "hermes": '<tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call>',
    "llama": '{"name": NAME, "parameters": OBJECT}',
    "mistral": '[TOOL_CALLS] [{"name": NAME, "arguments": OBJECT, "id": "call_1"}]',
    "phi": '<|tool_call|>[{"name": NAME, "arguments": OBJECT}]<|/tool_call|>',
    "command": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": NAME, "parameters": OBJECT}]<|END_ACTION|>',
    "envelopes": '<|calls|>[{"type": "function", "function": {"name": NAME, "arguments": TEXT}}]',
}
FORMS = {
    "hermes": CallFormat("<tool_call>", "</tool_call>", "name", "arguments"),
    "llama": CallFormat("", "", "name", "parameters"),
    "mistral": CallFormat("[TOOL_CALLS]", "", "name", "arguments"),
    "phi": CallFormat("<|tool_call|>", "<|/tool_call|>", "name", "arguments"),
    "command": CallFormat("<|START_ACTION|>", "<|END_ACTION|>", "tool_name", "parameters"),
    "envelopes": CallFormat("<|calls|>", "", "name", "arguments", inside="function"),
}


def write(family: str, name: str, arguments: Any) -> str:
    shown = SHOWN[family].replace("NAME", json.dumps(name))
    text = json.dumps(arguments)
    return shown.replace("OBJECT", text).replace("TEXT", json.dumps(text))


@pytest.mark.parametrize("family", SHOWN)
def test_it_is_learned_from_one_call(family: str) -> None:
    assert learn(write(family, NAME, ARGUMENTS), NAME, ARGUMENTS) == FORMS[family]


@pytest.mark.parametrize(
    "shown",
    [
        "<function=Zw0ne><parameter=Zw0ne>Qw7vo</parameter></function>",
        "<|call|>call:Zw0ne{Zw0ne:Qw7vo}",
        "[Zw0ne(Zw0ne='Qw7vo')]",
        "functions.Zw0ne <|message|>" + json.dumps(ARGUMENTS),
        "",
    ],
)
def test_what_is_no_json_with_a_name_is_not_learned(shown: str) -> None:
    assert learn(shown, NAME, ARGUMENTS) is None


@pytest.mark.parametrize("family", SHOWN)
@given(
    name=st.text(min_size=1),
    arguments=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())),
)
def test_a_call_is_read_back(family: str, name: str, arguments: dict[str, Any]) -> None:
    content, (call,) = FORMS[family].read(write(family, name, arguments))
    assert (content, call.name, call.arguments) == ("", name, arguments)
    assert call.status is ToolCallParseStatus.OK


@pytest.mark.parametrize("family", ["hermes", "mistral", "phi", "command", "envelopes"])
def test_text_before_the_calls_is_content(family: str) -> None:
    content, calls = FORMS[family].read("Let me see.\n" + write(family, "f", {}) * 2)
    assert content == "Let me see."
    assert [call.name for call in calls] == ["f", "f"]


def test_bare_calls_follow_each_other_with_or_without_a_semicolon() -> None:
    text = write("llama", "f", {}) + "; " + write("llama", "g", {"a": 1})
    _, calls = FORMS["llama"].read(text)
    assert [(call.name, call.arguments) for call in calls] == [("f", {}), ("g", {"a": 1})]


@pytest.mark.parametrize(
    "text", ["There.", '{"answer": 4}', "{", "[1, 2]", "[]", '"name"', "", "  ", '{"name": "Ann"}']
)
def test_without_an_opening_an_answer_of_json_is_no_call(text: str) -> None:
    assert FORMS["llama"].read(text) == (text, [])


@pytest.mark.parametrize(
    ("family", "text", "status"),
    [
        ("hermes", '<tool_call>\n{"name": "f", "argu', ToolCallParseStatus.UNCLOSED_BLOCK),
        ("hermes", "<tool_call>not json</tool_call>", ToolCallParseStatus.INVALID_JSON),
        ("hermes", "<tool_call>[]</tool_call>", ToolCallParseStatus.MALFORMED_STRUCTURE),
        ("hermes", "<tool_call>5</tool_call>", ToolCallParseStatus.MALFORMED_STRUCTURE),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', ToolCallParseStatus.MISSING_NAME),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>', ToolCallParseStatus.MALFORMED_STRUCTURE),
        ("hermes", "<tool_call>" + "[" * 100_000, ToolCallParseStatus.UNCLOSED_BLOCK),
        ("llama", '{"name": "f", "parameters": {"a', ToolCallParseStatus.INVALID_JSON),
        ("mistral", "[TOOL_CALLS][{", ToolCallParseStatus.INVALID_JSON),
        ("envelopes", '<|calls|>[{"name": "f"}]', ToolCallParseStatus.MALFORMED_STRUCTURE),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": NaN}]', ToolCallParseStatus.INVALID_JSON),
    ],
)
def test_a_broken_call_is_an_attempt(family: str, text: str, status: ToolCallParseStatus) -> None:
    _, (call,) = FORMS[family].read(text)
    assert call.status is status


def test_a_whole_call_after_a_broken_one_is_read() -> None:
    text = '<tool_call>{"name": </tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    _, calls = FORMS["hermes"].read(text)
    assert [call.status for call in calls] == [ToolCallParseStatus.INVALID_JSON, ToolCallParseStatus.OK]


def test_arguments_may_hold_what_closes_a_call() -> None:
    given = {"text": "</tool_call> [TOOL_CALLS] <tool_call>"}
    assert FORMS["hermes"].read(write("hermes", "f", given))[1][0].arguments == given


@given(st.text())
def test_nothing_that_is_written_raises(text: str) -> None:
    for form in FORMS.values():
        form.read(form.opening + text)
