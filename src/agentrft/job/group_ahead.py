"""One sample's rollouts that run ahead of the steps."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrft.data import Sample
from agentrft.rollout import Rollout, RolloutTask
from agentrft.store import PendingKey


@dataclass(eq=False)
class GroupAhead:
    """The rollouts of the sample at one place of the draw.

    Attributes:
        drawn_for: the step that would train on it if every step waited; its rollouts are kept under that.
        again: how often it was given up before.
        ended: its rollouts, by their task's key.
        oldest_version: policy version of the oldest token of those that have a reward; infinity where there is none.
        queued: rollouts that wait for a room.
        in_flight: rollouts that run.
        given_up: whether it is too old.
        replaced: whether it has no variance, and another group takes its place in the step.
        told: whether the progress knows of its rollouts.
    """

    place: int
    drawn_for: int
    sample: Sample
    again: int
    tasks: list[RolloutTask]
    ended: dict[str, Rollout] = field(default_factory=dict[str, Rollout])
    oldest_version: float = math.inf
    queued: int = 0
    in_flight: int = 0
    given_up: bool = False
    replaced: bool = False
    told: bool = False
    work: asyncio.Task[None] | None = None

    @property
    def rollouts(self) -> list[Rollout]:
        """Those that ended, in the order of their tasks."""
        return [self.ended[task.key] for task in self.tasks if task.key in self.ended]

    @property
    def keys(self) -> list[PendingKey]:
        """Of what may be stored of it."""
        return [PendingKey(self.drawn_for, task.key) for task in self.tasks]

    def is_in(self, stored: Mapping[str, Any]) -> bool:
        """Whether some of its rollouts are among those, which are by their tasks' keys."""
        return any(task.key in stored for task in self.tasks)

    def end(self, key: str, rollout: Rollout) -> None:
        """One of its rollouts has ended."""
        self.ended[key] = rollout
        version = rollout.oldest_version
        if rollout.outcome != "infra_failed" and version is not None:
            self.oldest_version = min(self.oldest_version, version)
