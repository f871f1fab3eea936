"""What a sink of metrics is."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunFacts:
    """What a sink is told of the job.

    Attributes:
        config: the job without secrets, and its hyperparameters with every "auto" chosen.
        folder: the job's own.
    """

    job_id: str
    config: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Record:
    """A committed step.

    Attributes:
        number: of all of the job's, in the order of their commits, from 0.
        phase: "train", "validation", "test", "warm_start" or "warm_rollouts"; step 0 of the validation is the baseline.
        values: its numbers by name, such as "train/reward_mean".
    """

    number: int
    phase: str
    step: int
    values: Mapping[str, float]

    @classmethod
    def of(cls, number: int, row: Mapping[str, Any]) -> "Record":
        """From a row of `JobStore.metrics`."""
        measured = {name: value for name, value in row.items() if name not in ("phase", "step")}
        return cls(number, row["phase"], row["step"], dict(numbers(measured, row["phase"])))


class Sink(Protocol):
    """One service. All calls come from one thread of the sink's own: they may block, and may raise what they like.

    After an error it is opened again, and goes on behind what the service has by then.
    """

    def open(self) -> int:
        """Begin the job's run, or go on with it. Returns how many of the job's records the run has already."""
        ...

    def write(self, record: Record) -> None: ...

    def close(self, status: str) -> None:
        """Wait until all is there, and say how the job's process ended: "succeeded", "failed", "paused" or
        "interrupted".
        """
        ...


def numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """The finite numbers at any depth, their names joined by slashes; texts and what is null are left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}/{name}", float(value)
