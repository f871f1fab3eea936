"""Estimates how many seconds a running job still takes, from the durations of its last steps.

The job object's `estimated_finish` is made of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.store.layout import TRAIN, VALIDATION

# Steps get longer or shorter as the model's answers do: the last few tell more than all.
RECENT = 5


def seconds_left(
    metrics: Sequence[Mapping[str, Any]], *, total_steps: int, validates: bool, eval_interval: int
) -> float | None:
    """Estimated seconds of all steps and validations that are not committed yet; None before the first step.

    Args:
        metrics: the metrics of all committed steps, in the order of their commits.
    """
    trained = [row for row in metrics if row["phase"] == TRAIN]
    if not trained:
        return None
    left = total_steps - max(row["step"] for row in trained)
    validated = [row for row in metrics if row["phase"] == VALIDATION]
    due = {step for step in range(1, total_steps + 1) if step % eval_interval == 0 or step == total_steps}
    validations_left = len(due - {row["step"] for row in validated}) if validates else 0
    return left * _usual(trained) + validations_left * _usual(validated)


def _usual(rows: Sequence[Mapping[str, Any]]) -> float:
    """Mean duration of the last few steps, in seconds; 0 if there is none."""
    recent = [row["step_s"] for row in rows[-RECENT:]]
    return sum(recent) / len(recent) if recent else 0.0
