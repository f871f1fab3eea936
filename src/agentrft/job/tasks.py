"""The rollouts of a step, as tasks."""

from collections.abc import Sequence
from typing import Any

from agentrft.data import Sample
from agentrft.rollout import RolloutTask

CLOCKED = frozenset({"peak_share", "bottleneck", "engine_idle_share"})


def rollout_tasks(
    samples: Sequence[Sample],
    *,
    step: int,
    rollouts_per_sample: int,
    temperature: float,
    top_p: float,
    seed: int,
    policy_version: int,
    again: int = 0,
) -> list[RolloutTask]:
    """`rollouts_per_sample` tasks for each sample, those of a sample next to each other."""
    return [
        RolloutTask(
            sample,
            step=step,
            index=index,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            policy_version=policy_version,
            again=again,
        )
        for sample in samples
        for index in range(rollouts_per_sample)
    ]


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics without what a clock decides: `CLOCKED`, and names that end in `_s` (seconds) or `_per_s` (rates)."""
    return {
        name: comparable(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if not name.endswith("_s") and name not in CLOCKED
    }
