"""The measures of stored rollouts."""

import json

import pytest

from agentrft.rollout import Rollout, ToolCallRecord, Turn
from examples.file_planning.measures import NAMES, measures

ITEM = {"files": ["core.py", "types.py"]}


def call(number: int, command: str, output: str, status: str = "ok") -> ToolCallRecord:
    return ToolCallRecord(f"call_{number}", "shell", json.dumps({"command": command}), output, status, 0.1, 1)


def rollout(text: str, *turns: list[ToolCallRecord], outcome: str = "graded") -> Rollout:
    made = [Turn([1], [2], [-0.1], "stop", 0, tool_calls=calls) for calls in (*turns, [])]
    messages = [{"role": "tool", "tool_call_id": one.call_id, "content": one.output} for turn in turns for one in turn]
    return Rollout("trace_1", 1, "s", 0, 0, outcome, made, messages, output_text=text)  # pyright: ignore[reportArgumentType]


def test_a_rollout_that_finds_one_of_two_files_with_searches_side_by_side() -> None:
    side_by_side = [call(0, "grep -rl a .", "./core.py"), call(1, "grep -rl b .", "./other.py")]
    found = measures(rollout("core.py\nelse.py\nother.py", side_by_side, [call(2, "ls", "core.py")]), ITEM)
    assert found == {
        "file_f1": pytest.approx(0.4),
        "precision": pytest.approx(1 / 3),
        "recall": 0.5,
        "turns": 3,
        "back_and_forths": 2,
        "calls": 3,
        "parallel_turn_share": 0.5,
        "answers_seen": pytest.approx(2 / 3),
    }


def test_a_guess_has_no_turn_that_calls_and_no_file_that_was_seen() -> None:
    found = measures(rollout("core.py\ntypes.py"), ITEM)
    assert (found["file_f1"], found["turns"], found["back_and_forths"]) == (1, 1, 0)
    assert (found["parallel_turn_share"], found["answers_seen"]) == (None, 0)


def test_without_an_answer_the_files_are_wrong_and_none_is_measured_as_seen() -> None:
    found = measures(rollout("", [call(0, "ls", "core.py")], outcome="model_failed"), ITEM)
    assert (found["file_f1"], found["precision"], found["recall"]) == (0, 0, 0)
    assert (found["answers_seen"], found["parallel_turn_share"]) == (None, 0)


def test_what_infrastructure_broke_is_not_measured() -> None:
    assert measures(rollout("core.py", outcome="infra_failed"), ITEM) == dict.fromkeys(NAMES)
