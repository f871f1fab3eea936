"""Behaviours: what an answer is a copy of, by place; and the habits that spread while the rest is unlearned."""

from typing import Any

import pytest

from agentrft.report.alarms import ringing, rollouts_that_show
from agentrft.report.behaviours import ALIKE, answering, behaviours, items_of, place_of, shifts, shown_by
from agentrft.rollout import Rollout
from agentrft.rollout.record import ToolCallRecord, Turn
from agentrft.spec import AlarmsSpec

FIRST = answering("the first")
LINES = "A01.1 Typhoid fever\nB02.9 Zoster without complications\nC03.0 Malignant neoplasm of gum\nD04 Carcinoma"


def rollout(
    answer: str, output: str = LINES, *, reward: float = 0.0, sample: str = "a", number: int = 0, prompt: str = "which?"
) -> Rollout:
    call = ToolCallRecord("c", "search", "{}", output, "ok", 0.1, 1)
    turns = [Turn([1], [2], [0.0], "stop", 0, tool_calls=[call] if output else []), Turn([3], [4], [0.0], "stop", 0)]
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Rollout(
        f"trace_{number}", 1, sample, 1, number, "graded", turns, messages, output_text=answer, reward=reward
    )


@pytest.mark.parametrize(
    ("answer", "place"),
    [("A01.1", 0), (" b02.9 ", 1), ("C03.0 malignant neoplasm of gum", 2), ("D04", 3), ("A01", 0), ("E05", None)],
)
def test_an_answer_is_found_among_the_lines_of_a_result(answer: str, place: int | None) -> None:
    assert place_of(" ".join(answer.lower().split()), items_of(LINES)) == place


def test_words_are_whole() -> None:
    items = items_of("room 10\nroom 1")
    assert place_of("1", items) == 1
    assert place_of("0", items) is None


@pytest.mark.parametrize(
    "result",
    ['["x 1", "y 2"]', '{"total": 2, "hits": [{"id": "x 1"}, {"id": "y 2"}]}', "x 1\n\n  y   2\n"],
)
def test_items_are_the_elements_of_a_list_or_the_lines(result: str) -> None:
    items = items_of(result)
    assert len(items) == 2
    assert place_of("y 2", items) == 1


@pytest.mark.parametrize("result", ["", "   ", "{}", "[]", "null", "[" * 5000, '{"a": 1', "\ud800 x\ny"])
def test_any_result_has_items_or_none(result: str) -> None:
    assert isinstance(items_of(result), list)
    assert shown_by(rollout("x", result))[FIRST] in (None, True, False)


def test_what_could_not_be_done_does_not_count() -> None:
    alone = shown_by(rollout("A01.1", "A01.1 Typhoid fever"))
    assert alone[FIRST] is None, "of one item nothing was chosen"
    assert shown_by(rollout("", LINES))[FIRST] is None
    assert shown_by(rollout("A01.1", ""))[FIRST] is None
    two = shown_by(rollout("A01.1", "A01.1 x\nB02.9 y"))
    assert (two[answering("the second")], two[answering("the third")]) == (False, None)


def test_shares_come_with_the_rewards_of_those_with_and_without() -> None:
    rollouts = [
        rollout("A01.1", reward=1.0, number=0),
        rollout("A01.1", reward=0.0, number=1),
        rollout("B02.9", reward=0.5, number=2),
        rollout("none", reward=0.25, number=3, sample="b"),
    ]
    found = behaviours(rollouts)
    first = found[FIRST]
    assert (first["share"], first["possible"]) == (0.5, 4)
    assert (first["reward_with"], first["reward_without"]) == (0.5, 0.375)
    assert found[answering("a later")]["share"] == 0.25
    alike = found[ALIKE]
    assert (alike["shown"], alike["possible"]) == (2, 3), "the only one of its sample could not"
    assert found["repeats the prompt"]["share"] == 0


def test_an_answer_that_is_the_prompt_is_seen() -> None:
    assert shown_by(rollout("Which?  "))["repeats the prompt"] is True


def step(share: float, without: float, *, with_it: float = 0.6, count: int = 64) -> dict[str, Any]:
    shown = round(share * count)
    one = {"share": share, "shown": shown, "possible": count, "reward_with": with_it, "reward_without": without}
    return {"behaviours": {FIRST: one}, "reward_mean": 0.5, "sampled_tokens_mean": 10.0}


def alike(of: dict[str, Any]) -> dict[str, Any]:
    """A step in which another behaviour has the shares: answers as others of their group."""
    return {**of, "behaviours": {ALIKE: of["behaviours"][FIRST]}}


def test_a_habit_that_spreads_while_the_rest_is_unlearned_rings_with_its_name() -> None:
    steps = [step(0.4 + 0.05 * number, 0.4 - 0.03 * number) for number in range(10)]
    (found,) = shifts(steps, least_rise=0.2, window=3)
    assert found.rise == pytest.approx(0.35, abs=0.02)
    assert found.without_after < found.without_before
    alarms = ringing(AlarmsSpec.model_validate({"behaviour_shift": {"threshold": 0.2, "over_steps": 3}}), steps)
    alarm = alarms[f"behaviour_shift:{FIRST}"]
    assert FIRST in alarm.text and "unlearns" in alarm.text
    rollouts = [rollout("A01.1", reward=1.0, number=0), rollout("A01.1", number=1), rollout("B02.9", number=2)]
    assert rollouts_that_show(alarm, rollouts) == ["trace_1", "trace_0"]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([step(0.4 + 0.05 * n, 0.3 + 0.02 * n) for n in range(10)], "the others did better, too"),
        ([step(0.5, 0.4 - 0.03 * n) for n in range(10)], "it did not spread"),
        ([step(0.4 + 0.05 * n, 0.4 - 0.03 * n, count=4) for n in range(10)], "too few to say"),
        ([step(0.4, 0.4), step(0.9, 0.1)], "too early to say"),
        ([{"reward_mean": 0.1}] * 10, "steps of before this was measured"),
        ([alike(step(0.4 + 0.05 * n, 0.4 - 0.03 * n)) for n in range(10)], "answers grow alike whatever is learned"),
    ],
)
def test_it_is_silent_where(steps: list[dict[str, Any]], why: str) -> None:
    assert shifts(steps, least_rise=0.2, window=3) == [], why


def test_entropy_that_collapses_rings() -> None:
    steps = [
        {"entropy": 0.4 / (1 + number), "sampled_tokens": 100, "sampled_tokens_mean": 10.0, "reward_mean": 0.5}
        for number in range(10)
    ]
    alarm = ringing(AlarmsSpec(), steps)["entropy_collapse"]
    assert alarm.value > 5
    assert "nats" in alarm.text
    assert "entropy_collapse" not in ringing(AlarmsSpec(), steps[:5])
    without_updates = [{**one, "entropy": 0.0, "sampled_tokens": 0} for one in steps[5:]]
    assert "entropy_collapse" not in ringing(AlarmsSpec(), [*steps[:5], *without_updates])
