"""Messages of rows: what is brought to one shape, and what is refused with its field."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentrft.data import load_demonstrations, load_samples
from agentrft.errors import UserError

USER = {"role": "user", "content": "Find the code."}
ANSWER = {"role": "assistant", "content": "It is E11."}


def call(arguments: Any = "{}", name: str = "search", call_id: str | None = "call_1", **more: Any) -> dict[str, Any]:
    made = {"type": "function", "function": {"name": name, "arguments": arguments}, **more}
    return made if call_id is None else {"id": call_id, **made}


def calls(*made: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


def result(call_id: str | None = "call_1", content: Any = "found") -> dict[str, Any]:
    return {"role": "tool", "content": content} | ({} if call_id is None else {"tool_call_id": call_id})


def write(folder: Path, messages: Any, **row: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps({"messages": messages, **row}) + "\n")
    return path


def demonstration(folder: Path, *messages: Any) -> list[dict[str, Any]]:
    (sample,) = load_demonstrations(write(folder, list(messages)))
    return sample.messages


def faults(folder: Path, *messages: Any, prompts: bool = False) -> list[str]:
    with pytest.raises(UserError) as raised:
        (load_samples if prompts else load_demonstrations)(write(folder, list(messages)))
    return [line.removeprefix("  - line 1: ") for line in raised.value.cause.splitlines()[1:]]


@pytest.mark.parametrize("nothing", ["", "null", "  \n", " null ", None, {}, "{}"])
def test_no_arguments_in_any_spelling_are_an_empty_object(tmp_path: Path, nothing: Any) -> None:
    messages = demonstration(tmp_path, USER, calls(call(nothing)), result(), ANSWER)
    assert messages[1]["tool_calls"][0]["function"] == {"name": "search", "arguments": "{}"}


@pytest.mark.parametrize("given", [{"query": "été"}, '{"query": "été"}', ' {"query":\n"été"} '])
def test_arguments_become_one_json_text(tmp_path: Path, given: Any) -> None:
    messages = demonstration(tmp_path, USER, calls(call(given)), result(), ANSWER)
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"query": "été"}'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("[1]", "found a list"),
        ('"x"', "found text"),
        ('"{\\"query\\": \\"x\\"}"', "found text"),
        ("5", "found a number"),
        ("true", "found true or false"),
        ("{bad", "not valid JSON"),
        ("query=x", "not valid JSON"),
        ('{"query": "x"} {}', "not valid JSON"),
        ('{"n": NaN}', "not a finite number"),
        ('{"n": 1e999}', "too large"),
        ("[" * 5_000, "nested"),
        ([1], "found a list"),
        (5, "found a number"),
        (False, "found true or false"),
    ],
)
@pytest.mark.parametrize("prompts", [False, True], ids=["demonstration", "prompt"])
def test_arguments_that_are_no_object_are_a_fault_with_their_field(
    tmp_path: Path, arguments: Any, said: str, prompts: bool
) -> None:
    end = USER if prompts else ANSWER
    (fault,) = faults(tmp_path, USER, calls(call(arguments)), result(), end, prompts=prompts)
    assert fault.startswith("messages[1].tool_calls[0].function.arguments: ") and said in fault


def test_missing_arguments_a_legacy_call_and_a_custom_one_are_faults(tmp_path: Path) -> None:
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "search", "arguments": "{}"}}
    custom = {"id": "c", "type": "custom", "custom": {"name": "search", "input": "x"}}
    missing = {"id": "c", "type": "function", "function": {"name": "search", "parameters": {}}}
    returned = {"role": "function", "name": "search", "content": "found"}
    assert [
        fault.partition(": ")[0] for fault in faults(tmp_path, USER, legacy, returned, calls(custom, missing), ANSWER)
    ] == [
        "messages[1].function_call",
        "messages[1].content",
        "messages[2].role",
        "messages[3].tool_calls[0].type",
        "messages[3].tool_calls[1].function.arguments",
    ]


def test_what_a_client_writes_as_null_is_not_there(tmp_path: Path) -> None:
    said = {**ANSWER, "function_call": None, "tool_calls": None, "name": None, "refusal": None, "audio": None}
    assert demonstration(tmp_path, {**USER, "name": None}, said) == [USER, ANSWER]


def test_text_parts_are_joined_and_an_empty_list_of_them_is_no_content(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Find"}, {"type": "text", "text": "the code."}]
    refusal = [{"type": "text", "text": "No:"}, {"type": "refusal", "refusal": "I may not."}]
    messages = demonstration(
        tmp_path,
        {"role": "user", "content": parts},
        calls(call(), content=[]),
        result(content=parts[:1]),
        {"role": "assistant", "content": refusal},
    )
    assert [message["content"] for message in messages] == ["Find\nthe code.", "", "Find", "No:\nI may not."]
    (fault,) = faults(tmp_path, {"role": "user", "content": []}, ANSWER)
    assert fault.startswith("messages[0].content: expected a string or text parts")


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x"}}, "[1].type: 'image_url'; only text is supported"),
        ({"type": "input_audio", "input_audio": {}}, "[1].type: 'input_audio'"),
        ({"type": "refusal", "refusal": "no"}, "[1].type: 'refusal'"),
        ({"text": "x"}, "[1].type: missing"),
        ({"type": "text"}, "[1].text: expected a string"),
        ({"type": "text", "text": 5}, "[1].text: expected a string"),
        ("bare", "[1]: expected an object"),
    ],
)
def test_other_parts_are_refused_with_their_place(tmp_path: Path, part: Any, place: str) -> None:
    (fault,) = faults(tmp_path, {"role": "user", "content": [{"type": "text", "text": "x"}, part]}, ANSWER)
    assert fault.startswith(f"messages[0].content{place}")


def test_names_are_accepted_and_a_result_gets_its_functions(tmp_path: Path) -> None:
    messages = demonstration(
        tmp_path, {**USER, "name": "Ann"}, calls(call()), result() | {"name": "functions.search"}, ANSWER
    )
    assert messages[0]["name"] == "Ann"
    assert messages[2]["name"] == "search"
    (fault,) = faults(tmp_path, {**USER, "name": 5}, ANSWER)
    assert fault.startswith("messages[0].name: expected a string")


def test_results_are_matched_to_their_calls(tmp_path: Path) -> None:
    two = calls(call(), call(name="now", call_id="call_2"))
    messages = demonstration(tmp_path, USER, two, result("call_2"), result("call_1"), ANSWER)
    assert [message["name"] for message in messages[2:4]] == ["now", "search"]
    without_ids = calls(call(call_id=None), call(name="now", call_id=None))
    messages = demonstration(tmp_path, USER, without_ids, result(None), result(None), ANSWER)
    assert [message["name"] for message in messages[2:4]] == ["search", "now"]
    again = (calls(call()), result())
    assert len(demonstration(tmp_path, USER, *again, *again, ANSWER)) == 6
    assert len(demonstration(tmp_path, USER, calls(call()))) == 2, "a demonstration may end in a call"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER, result(), ANSWER], ["messages[1].tool_call_id: no call 'call_1' waits"]),
        ([USER, calls(call()), result("other"), ANSWER], ["messages[2].tool_call_id", "messages[1].tool_calls[0]"]),
        ([USER, calls(call()), result(None), ANSWER], ["messages[2].tool_call_id: missing", "messages[1]"]),
        ([USER, calls(call()), result(), result(), ANSWER], ["messages[3].tool_call_id: no call"]),
        ([USER, calls(call()), ANSWER], ["messages[1].tool_calls[0]: there is no result of it before messages[2]"]),
        ([USER, calls(call()), USER, result(), ANSWER], ["messages[1].tool_calls[0]", "messages[3].tool_call_id"]),
        ([USER, calls(call(), call(call_id="b")), result(), ANSWER], ["messages[1].tool_calls[1]"]),
        (
            [USER, calls(call(), call()), result(), result(), ANSWER],
            ["messages[1].tool_calls[1].id: 'call_1' is there"],
        ),
        ([{**USER, "tool_calls": [call()]}, ANSWER], ["messages[0].tool_calls: a message of role 'user' makes no"]),
        ([USER, calls(call(name="")), ANSWER], ["messages[1].tool_calls[0].function.name"]),
    ],
)
def test_calls_and_results_that_do_not_belong_together_are_faults(
    tmp_path: Path, messages: list[Any], expected: list[str]
) -> None:
    found = faults(tmp_path, *messages)
    assert len(found) == len(expected)
    assert all(fault.startswith(one) for fault, one in zip(found, expected, strict=True)), found


def test_a_prompt_may_not_end_before_its_calls_have_results(tmp_path: Path) -> None:
    two = calls(call(), call(call_id="b"))
    (fault,) = faults(tmp_path, USER, two, result(), prompts=True)
    assert fault == "messages[1].tool_calls[1]: there is no result of it"


@pytest.mark.parametrize("content", ["", " \n", None, []])
def test_a_demonstrated_turn_without_text_or_calls_is_a_fault(tmp_path: Path, content: Any) -> None:
    (fault,) = faults(tmp_path, USER, {"role": "assistant", "content": content})
    assert fault.startswith("messages[1].content: ")


def test_a_demonstration_begins_with_a_prompt_and_trains_something(tmp_path: Path) -> None:
    assert faults(tmp_path, ANSWER)[0].startswith("messages: nothing comes before")
    assert faults(tmp_path, USER, {**ANSWER, "weight": 0})[0].startswith("messages: every assistant's message has weig")
    assert faults(tmp_path, USER, {**ANSWER, "weight": 0.5})[0].startswith("messages[1].weight: expected 0 or 1")
    assert len(demonstration(tmp_path, USER, {**ANSWER, "content": "", "weight": 0}, USER, ANSWER)) == 4


def test_a_tool_of_a_row_that_is_there_twice_or_has_no_schema_is_a_fault(tmp_path: Path) -> None:
    tools = [{"function": {"name": "a", "parameters": "none"}}, {"function": {"name": "a"}}]
    with pytest.raises(UserError) as raised:
        load_samples(write(tmp_path, [USER], tools=tools))
    assert "tools[0].function.parameters: expected" in raised.value.cause
    assert "tools[1].function.name: 'a' is there twice" in raised.value.cause


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_a_refusal_is_what_the_assistant_said(tmp_path: Path, content: dict[str, Any]) -> None:
    messages = demonstration(tmp_path, USER, {"role": "assistant", **content, "refusal": "no"})
    assert messages[1] == {"role": "assistant", "content": "no"}


def test_a_refusal_beside_content_or_that_is_no_text(tmp_path: Path) -> None:
    assert demonstration(tmp_path, USER, {**ANSWER, "refusal": "no"})[1] == ANSWER
    assert demonstration(tmp_path, USER, {**ANSWER, "refusal": None})[1] == ANSWER
    (fault,) = faults(tmp_path, USER, {"role": "assistant", "refusal": 5})
    assert fault.startswith("messages[1].refusal: expected a string")
    (fault, _) = faults(tmp_path, USER, {"role": "user", "refusal": "no"}, {"role": "user"})
    assert fault.startswith("messages[1].content: ")


@pytest.mark.parametrize("arguments", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}'])
def test_arguments_with_a_key_twice_are_a_fault(tmp_path: Path, arguments: str) -> None:
    (fault,) = faults(tmp_path, USER, calls(call(arguments)), result(), ANSWER)
    assert fault.startswith("messages[1].tool_calls[0].function.arguments: ") and "twice" in fault


@pytest.mark.parametrize("name", ["", " ", "f\n", "f g <|im_end|>", "f" * 65, "f" * 100_000, "é", "²"])
def test_a_tool_of_a_row_has_a_name_that_can_be_called(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as raised:
        load_samples(write(tmp_path, [USER], tools=[{"function": {"name": name}}] * 2))
    assert "tools[0].function.name: expected up to 64" in raised.value.cause and len(raised.value.cause) < 1000


@pytest.mark.parametrize(
    ("tool", "place"),
    [
        ({"function": {"name": "f", "description": 5}}, "tools[0].function.description"),
        ({"function": {"name": "f", "description": ["x"]}}, "tools[0].function.description"),
        ({"type": "retrieval"}, "tools[0].type"),
        ({"type": "retrieval", "function": {"name": "f"}}, "tools[0].type"),
        ({"type": 5, "function": {"name": "f"}}, "tools[0].type"),
    ],
)
def test_a_tool_of_a_row_is_a_function(tmp_path: Path, tool: dict[str, Any], place: str) -> None:
    with pytest.raises(UserError) as raised:
        load_samples(write(tmp_path, [USER], tools=[tool]))
    assert f"line 1: {place}: expected" in raised.value.cause
