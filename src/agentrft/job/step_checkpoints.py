"""The checkpoints of a job's steps: which there are, which the learner is at, and which are kept.

The cadence of checkpoints is not the cadence of steps: whoever trains says when one is written.
"""

import time
from collections.abc import Collection

from agentrft.job.checkpoint import load_state, prune, save_checkpoint
from agentrft.job.model_runtime import ModelRuntime
from agentrft.learner.optimizer import PolicyOptimizer
from agentrft.store import JobStore
from agentrft.store.layout import newest_checkpoint, step_folder


class StepCheckpoints:
    """Those of one job that runs.

    Attributes:
        newest: the step of the newest one that is in the job's record.
        holds: the recorded step whose state the learner has; None while it has another. Whoever trains sets it.
        seconds: that the last one took to write.
    """

    def __init__(self, runtime: ModelRuntime, learner: PolicyOptimizer, store: JobStore, job_id: str) -> None:
        self._runtime = runtime
        self._learner = learner
        self._store = store
        self._job_id = job_id
        self._folder = store.job_folder(job_id)
        self.newest = 0
        self.holds: int | None = None
        self.seconds = 0.0

    async def load(self, last: int, *, keep_start: bool) -> None:
        """Give the learner the newest state of a job whose record ends with step `last`; before the first step keep
        the policy as it is as step 0.

        Args:
            keep_start: whether the learner compares with the policy that training began with.

        Raises:
            UserError: there is none.
        """
        if last == 0 and not step_folder(self._folder, 0).exists():
            await self.save(0)
        self.newest = newest_checkpoint(self._store.checkpoints(self._job_id), last)
        state = load_state(step_folder(self._folder, self.newest))
        await self._runtime.compute(self._learner.load_state, state)
        if keep_start:
            start = state if self.newest == 0 else load_state(step_folder(self._folder, 0))
            await self._runtime.compute(self._learner.keep_start, start["masters"])
        self.holds = self.newest

    async def save(self, step: int) -> None:
        """Keep the learner's state as that of a step."""
        folder, artifacts, started = step_folder(self._folder, step), self._store.artifacts, time.perf_counter()
        await self._runtime.compute(save_checkpoint, folder, self._learner)
        await artifacts.aside(artifacts.push, folder)
        self.newest, self.seconds = step, time.perf_counter() - started

    async def save_held(self) -> None:
        """Keep the last recorded step where it is not kept yet: whoever goes on need not make its update again."""
        if self.holds is not None and self.holds > self.newest:
            await self.save(self.holds)

    async def prune(self, also: Collection[int]) -> None:
        """Delete all but the first, the newest, and those of the steps `also`."""
        artifacts = self._store.artifacts
        await artifacts.aside(prune, self._folder, {*also, 0, self.newest}, artifacts)
