"""Which validated step is a job's result.

The highest of several noisy means is too high, and most often not the best step: with nothing changed and five
validations of 20 samples it promises a gain of 0.095, and is a trained step three times of four. So the result is the
last step, unless an earlier one is better on the very same samples by more than chance explains.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.report.averages import mean
from agentrft.report.intervals import CONFIDENCE, Interval, paired_interval
from agentrft.rollout.record import Rollout

FLOOR = "model_failed_floor"


@dataclass(frozen=True)
class Validated:
    """The rollouts of a validation.

    Attributes:
        rewards: of each sample, those of its rollouts.
        failed: of each sample, how many rollouts the agent failed.
        floor: the reward that these got, where it is the lowest of this very validation.
    """

    step: int
    rewards: Mapping[str, Sequence[float]]
    failed: Mapping[str, int]
    floor: float | None


def validated(step: int, rollouts: Sequence[Rollout], floor: float | None) -> Validated:
    """Of a validation's rollouts; those without a reward are left out."""
    rewards: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for rollout in rollouts:
        if rollout.reward is not None:
            rewards.setdefault(rollout.sample_id, []).append(rollout.reward)
            failed[rollout.sample_id] += rollout.outcome == "model_failed"
    return Validated(step, rewards, failed, floor)


@dataclass(frozen=True)
class Choice:
    """A job's result; `over_last` is what it has over the last step, None where it is that."""

    step: int
    over_last: Interval | None = None


def chosen_step(validations: Sequence[Validated]) -> Choice:
    """The last of the validated steps, or an earlier one whose paired interval over it leaves out 0.

    Several earlier ones have wider intervals (Bonferroni), and the one with the largest mean is taken.
    """
    *earlier, last = sorted(validations, key=lambda one: one.step)
    floors = [one.floor for one in validations if one.floor is not None]
    lowest = min(floors, default=0.0)
    of_last, best = _means(last, lowest), Choice(last.step)
    for one in earlier:
        found = paired_interval(of_last, _means(one, lowest), 1 - (1 - CONFIDENCE) / len(earlier))
        if found.low > 0 and (best.over_last is None or found.mean > best.over_last.mean):
            best = Choice(one.step, found)
    return best


def best_validation(validations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The one with the highest mean reward; the earliest among equals. It is too high by chance: see `chosen_step`.

    Where failures got the lowest reward of their own validation (`model_failed_floor`), they are compared as if all had
    the lowest of all: a policy that mostly failed beside few graded answers is not better than one that answered.

    Args:
        validations: metrics of one or more, in order of their steps.
    """
    floors = [row[FLOOR] for row in validations if row.get(FLOOR) is not None]
    lowest = min(floors, default=0.0)
    return max(validations, key=lambda row: (_mean_reward(row, lowest), -row["step"]))


def _means(one: Validated, lowest: float) -> dict[str, float]:
    """Of each sample; failures that got this validation's lowest reward get that of all validations."""
    more = 0.0 if one.floor is None else lowest - one.floor
    return {
        sample: mean(rewards) + more * one.failed.get(sample, 0) / len(rewards)
        for sample, rewards in one.rewards.items()
        if rewards
    }


def _mean_reward(row: Mapping[str, Any], lowest: float) -> float:
    floor = row.get(FLOOR)
    if floor is None:
        return row["reward_mean"]
    outcomes = row["outcomes"]
    failed, graded = outcomes.get("model_failed", 0), outcomes.get("graded", 0)
    return row["reward_mean"] + (lowest - floor) * failed / max(1, failed + graded)
