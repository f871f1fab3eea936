"""The measures of a stored rollout, by hand."""

from typing import Any

import pytest

from agentrft.rollout import Rollout, ToolCallRecord, Turn
from examples.medical_notes.measures import measures

ITEM: dict[str, Any] = {
    "answer": ["K25.4", "J20.9", "K42.9"],
    "findings": [
        {"code": "K25.4", "kind": "now"},
        {"code": "J20.9", "kind": "now"},
        {"code": "K42.9", "kind": "now"},
        {"code": "J45.909", "kind": "denied"},
        {"code": "K57.30", "kind": "family"},
    ],
}


def rollout(text: str) -> Rollout:
    calls = [
        ToolCallRecord("call_0", "search", "{}", "K25.4 Gastric ulcer\nJ45.909 Asthma", "ok", 0.1, 1),
        ToolCallRecord("call_1", "search", "{}", "no hits", "ok", 0.1, 1),
    ]
    turns = [Turn([1], [1, 2, 3], [0.0] * 3, "stop", 0, tool_calls=calls), Turn([1], [4, 5], [0.0] * 2, "stop", 0)]
    return Rollout("trace_1", 1, "s", 1, 0, "graded", turns, [], text, latency_s=3.5)


def test_codes_are_counted_exactly_and_by_category_and_those_of_negations_apart() -> None:
    found = measures(rollout("K25.4\nJ20.0\nJ45.909\nL40.0"), ITEM)
    assert found["precision"] == pytest.approx(1 / 4)
    assert found["recall"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx(2 / 7)
    assert found["category_f1"] == pytest.approx(4 / 7)
    assert found["false_codes_from_negations"] == pytest.approx(1 / 4)
    assert found["unseen_codes"] == pytest.approx(2 / 4)


def test_effort_is_turns_calls_seconds_and_sampled_tokens() -> None:
    found = measures(rollout("K25.4"), ITEM)
    assert (found["turns"], found["calls"], found["latency_s"], found["output_tokens"]) == (2, 2, 3.5, 5)


def test_a_rollout_without_an_answer_has_no_precision() -> None:
    found = measures(rollout(""), ITEM)
    assert (found["f1"], found["recall"], found["category_f1"]) == (0, 0, 0)
    assert found["precision"] is found["false_codes_from_negations"] is found["unseen_codes"] is None
