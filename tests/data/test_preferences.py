"""Rows of preferences, in OpenAI's format."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentrft.data import each_preference, has_preferences
from agentrft.errors import UserError
from agentrft.tools import call_judge

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "red"}
ROW: dict[str, Any] = {
    "input": {"messages": [{"role": "user", "content": "Colour?"}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "red"}],
    "non_preferred_output": [{"role": "assistant", "content": "no idea"}],
}


def written(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_both_answers_follow_the_prompt_and_nothing_is_learned_of_it(tmp_path: Path) -> None:
    history = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Colour?"},
    ]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    answer = [
        {"role": "assistant", "tool_calls": [CALL]},
        RESULT,
        {"role": "assistant", "content": "red"},
    ]
    row = {**ROW, "input": {"messages": history, "tools": [tool]}, "preferred_output": answer}
    (found,) = each_preference(written(tmp_path, row))
    assert [one["role"] for one in found.preferred.messages] == [
        *("user", "assistant", "user"),
        *("assistant", "tool", "assistant"),
    ]
    assert [one.get("weight") for one in found.preferred.messages] == [None, 0, None, None, None, None]
    assert found.other.messages[-1] == {"role": "assistant", "content": "no idea"}
    assert found.preferred.tools == [tool] and found.sample_id.startswith("00001-")
    assert found.preferred.line == 1


FAULTS = [
    ({"messages": []}, "input: expected an object with 'messages'"),
    ({**ROW, "input": {"messages": []}}, "input.messages: expected a non-empty list"),
    ({**ROW, "input": {"messages": [{"role": "user", "content": 3}]}}, "input.messages[0].content"),
    ({**ROW, "input": {**ROW["input"], "tools": {}}}, "input.tools: expected a list"),
    ({**ROW, "preferred_output": None}, "preferred_output: expected a non-empty list"),
    ({**ROW, "preferred_output": "red"}, "preferred_output: expected a non-empty list"),
    (
        {**ROW, "non_preferred_output": [{"role": "user", "content": "x"}]},
        "non_preferred_output[0].role: expected 'assistant'",
    ),
    (
        {**ROW, "preferred_output": [{"role": "assistant", "content": " "}]},
        "preferred_output[0].content: an assistant's message without text",
    ),
    ({**ROW, "preferred_output": [{"role": "assistant", "tool_calls": [{**CALL, "id": 3}]}]}, "preferred_output[0]"),
    (
        {**ROW, "preferred_output": [{"role": "assistant", "tool_calls": [CALL]}, RESULT]},
        "preferred_output: an answer must end in an assistant's message",
    ),
    (
        {**ROW, "preferred_output": [{"role": "assistant", "content": "red", "weight": 0}]},
        "preferred_output: every assistant's message has weight 0",
    ),
    ({**ROW, "non_preferred_output": ROW["preferred_output"]}, "preferred_output: the same as non_preferred_output"),
    (
        {**ROW, "input": {"messages": [*ROW["input"]["messages"], {"role": "assistant", "content": "a"}]}},
        "input.messages: the last message must not be an assistant's",
    ),
    ([1], "expected a JSON object"),
]


@pytest.mark.parametrize(("row", "text"), FAULTS)
def test_a_faulty_row_is_named_with_its_line_and_field(tmp_path: Path, row: Any, text: str) -> None:
    with pytest.raises(UserError) as refused:
        list(each_preference(written(tmp_path, ROW, row)))
    assert f"line 2: {text}" in refused.value.cause


def test_a_file_tells_by_its_first_row_what_it_has(tmp_path: Path) -> None:
    assert has_preferences(written(tmp_path, ROW))
    assert has_preferences(written(tmp_path, {"preferred_output": []}))
    assert not has_preferences(written(tmp_path, {"messages": [], "input": "a column of one's own"}))
    assert not has_preferences(written(tmp_path, [1]))
    (tmp_path / "odd").write_bytes(b"\n\n{not json")
    assert not has_preferences(tmp_path / "odd")
    (tmp_path / "empty").write_bytes(b"")
    assert not has_preferences(tmp_path / "empty")


def test_what_a_judge_finds_is_named_as_the_row_has_it(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    wrong = {**CALL, "function": {"name": "find", "arguments": "{}"}}
    row = {
        **ROW,
        "input": {**ROW["input"], "tools": [tool]},
        "preferred_output": [
            {"role": "assistant", "tool_calls": [wrong]},
            RESULT,
            {"role": "assistant", "content": "x"},
        ],
    }
    with pytest.raises(UserError) as refused:
        list(each_preference(written(tmp_path, row), call_judge()))
    assert "line 1: preferred_output[0].tool_calls[0]" in refused.value.cause
    row["input"]["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "odd"}}}]
    row["preferred_output"] = ROW["preferred_output"]
    with pytest.raises(UserError) as refused:
        list(each_preference(written(tmp_path, row), call_judge()))
    assert "line 1: input.tools[0]" in refused.value.cause
