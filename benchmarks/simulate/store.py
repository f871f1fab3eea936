"""The store, and what it costs the driver."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrft.report.summary import summarise
from agentrft.rollout import Rollout
from agentrft.store import JobStore, PendingKey, PendingRollout
from agentrft.store.layout import TRAIN
from benchmarks.simulate.clock import Clock
from benchmarks.simulate.costs import Costs

# Rollouts that the real database is given one by one; a commit waits for the disk, so of more it would take too long.
REAL = 200


class ChargedStore:
    """Graded rollouts in the real database, and beyond so many of a run in memory; each is charged what it costs.

    Attributes:
        commits: transactions that a real store would have made.
        record_bytes, file_bytes: written to the database, and to the files of steps.
    """

    def __init__(self, folder: Path, costs: Costs, clock: Clock) -> None:
        self._store = JobStore(folder)
        self.job_id = self._store.create_job({}, model="simulated", seed=0)
        self._costs, self._clock = costs, clock
        self._pending: dict[tuple[int, str], dict[str, Any]] = {}
        self.commits = 0
        self.record_bytes = self.file_bytes = 0.0

    def pending_rollouts(self, job_id: str, phase: str, step: int) -> dict[str, dict[str, Any]]:
        """See `JobStore`."""
        return {key: value for (of, key), value in self._pending.items() if of == step} | (
            self._store.pending_rollouts(job_id, phase, step)
        )

    def add_pending_rollout(self, job_id: str, phase: str, step: int, key: str, payload: dict[str, Any]) -> None:
        """See `JobStore`."""
        self._clock.charge(self._costs.record_s + self._costs.disk_s)
        self.record_bytes += self._costs.record_bytes
        self.commits += 1
        with self._clock.set_apart():
            if self.commits <= REAL:
                self._store.add_pending_rollout(job_id, phase, step, key, payload)
            elif (step, key) in self._pending:
                raise ValueError(f"{key} of step {step} is there already")
            else:
                self._pending[step, key] = {}

    def add_pending_rollouts(self, job_id: str, rollouts: Sequence[PendingRollout]) -> None:
        """See `JobStore`."""
        for one in rollouts:
            self.add_pending_rollout(job_id, one.phase, one.step, one.key, one.payload)

    async def write_step(self, step: int, rollouts: list[Rollout], settled: Sequence[PendingKey]) -> None:
        """What a step costs that was trained on: a thread writes it, in turn with the loop."""
        for _ in rollouts:
            self._clock.charge(self._costs.step_s)
            await asyncio.sleep(0)
        self.file_bytes += self._costs.file_bytes * len(rollouts)
        self.commits += 1
        with self._clock.set_apart():
            self._store.commit_step(self.job_id, TRAIN, step, summarise(rollouts).as_dict(), settled=settled)
            for key in settled:
                self._pending.pop((key.step, key.key), None)

    def close(self) -> None:
        self._store.close()
