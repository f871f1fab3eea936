"""Which validation of a job is its best."""

from collections.abc import Mapping, Sequence
from typing import Any

FLOOR = "model_failed_floor"


def best_validation(validations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The one with the highest mean reward; the earliest among equals.

    Where failures got the lowest reward of their own validation (`model_failed_floor`), they are compared as if all had
    the lowest of all: a policy that mostly failed beside few graded answers is not better than one that answered.

    Args:
        validations: metrics of one or more, in order of their steps.
    """
    floors = [row[FLOOR] for row in validations if row.get(FLOOR) is not None]
    lowest = min(floors, default=0.0)
    return max(validations, key=lambda row: (_mean_reward(row, lowest), -row["step"]))


def _mean_reward(row: Mapping[str, Any], lowest: float) -> float:
    floor = row.get(FLOOR)
    if floor is None:
        return row["reward_mean"]
    outcomes = row["outcomes"]
    failed, graded = outcomes.get("model_failed", 0), outcomes.get("graded", 0)
    return row["reward_mean"] + (lowest - floor) * failed / max(1, failed + graded)
