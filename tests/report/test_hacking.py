"""A reward that rises while a grader that never trains says that the work got worse."""

from functools import partial
from typing import Any

import pytest

from agentrft.report import hacking
from agentrft.report.hacking import most_suspicious
from agentrft.rollout import Rollout


def steps(rewards: list[float], **holdouts: list[float]) -> list[dict[str, Any]]:
    return [
        {"reward_mean": reward, "holdout_scores": {name: scores[n] for name, scores in holdouts.items()}}
        for n, reward in enumerate(rewards)
    ]


divergences = partial(hacking.divergences, least_change=0.05, window=5)
RISING = [0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
FALLING = RISING[::-1]


def test_a_holdout_that_falls_while_the_reward_rises_is_named_with_both() -> None:
    (found,) = divergences(steps(RISING, honest=FALLING, alike=RISING))
    assert found.holdout == "honest"
    assert found.text == (
        "the reward rose from 0.18 to 0.60 while holdout 'honest' fell from 0.60 to 0.18: the grader may be gamed"
    )


def test_a_holdout_that_rose_first_and_fell_then_is_seen() -> None:
    up_and_down = [0.1] * 5 + [0.8] * 5 + [0.3] * 5
    assert [one.holdout for one in divergences(steps(sorted(RISING + [0.5] * 5), honest=up_and_down))] == ["honest"]


@pytest.mark.parametrize(
    ("rewards", "scores"),
    [
        (RISING, RISING),
        (FALLING, FALLING),
        (FALLING, RISING),
        ([0.5] * 10, FALLING),
        (RISING, [0.5] * 10),
        (RISING[:9], FALLING[:9]),
        ([0.50, 0.51] * 5, [0.51, 0.50] * 5),
    ],
)
def test_nothing_else_is_taken_for_it(rewards: list[float], scores: list[float]) -> None:
    assert divergences(steps(rewards, honest=scores)) == []


def test_a_job_without_holdouts_has_no_divergence() -> None:
    assert divergences([{"reward_mean": 0.1}] * 20) == []


def test_the_rollouts_to_read_are_those_whose_reward_is_furthest_above_the_holdout() -> None:
    def rollout(name: str, reward: float | None, **scores: float) -> Rollout:
        return Rollout(name, 1, "s", 1, 0, "graded", [], [], reward=reward, holdout_scores=scores)

    rollouts = [
        rollout("a", 1.0, honest=0.9),
        rollout("b", 1.0, honest=0.0),
        rollout("c", 0.5, honest=0.0),
        rollout("d", 0.0, honest=1.0),
        rollout("e", None, honest=0.0),
        rollout("f", 1.0),
    ]
    assert most_suspicious(rollouts, "honest") == ["b", "c", "a"]
