"""Running many rollouts at once, each kept in the store as soon as it is graded."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from agentrft.engine import Session
from agentrft.job.memory_budget import DETERMINISTIC_UNIT
from agentrft.job.progress import Progress
from agentrft.job.runtime import Runtime
from agentrft.job.stop import Stop
from agentrft.report.summary import SAME_REWARD
from agentrft.rollout import FailedReward, Rollout, RolloutTask
from agentrft.store import PendingRollout
from agentrft.store.layout import TRAIN
from agentrft.tracing import with_attributes

T = TypeVar("T")


class RolloutStore(Protocol):
    """Where graded rollouts are kept until their phase and step are done; `JobStore` is one."""

    def pending_rollouts(self, job_id: str, phase: str, step: int) -> dict[str, dict[str, Any]]: ...

    def add_pending_rollout(self, job_id: str, phase: str, step: int, key: str, payload: dict[str, Any]) -> None: ...

    def add_pending_rollouts(self, job_id: str, rollouts: Sequence[PendingRollout]) -> None: ...


class Decisions:
    """Which groups have shown enough: the first `after` rollouts are all right. None decides nothing.

    One whose first are all wrong goes on: that a success is rare is what many rollouts are asked for, and with 32 of
    them at one success in twenty more than half of what there is to learn would be lost.
    """

    def __init__(
        self, after: int | None, pass_threshold: float, failed_reward: FailedReward, rollouts: Iterable[Rollout]
    ) -> None:
        self._after = after
        self._right = pass_threshold - SAME_REWARD
        self._failed_reward = failed_reward
        self._groups: dict[str, list[Rollout]] = defaultdict(list)
        for rollout in rollouts:
            self.add(rollout)

    def add(self, rollout: Rollout) -> None:
        self._groups[rollout.sample_id].append(rollout)

    def is_decided(self, sample_id: str) -> bool:
        rewards = self._failed_reward.rewards(self._groups[sample_id])
        return (
            self._after is not None
            and len(rewards) >= self._after
            and min(rewards) >= self._right
            and max(rewards) - min(rewards) <= SAME_REWARD
        )

    def in_order(self, runs: Iterable[tuple[RolloutTask, T]]) -> list[tuple[RolloutTask, T]]:
        """What to begin first: every group's first rollouts before any group's last, if groups may be decided."""
        after = self._after
        return list(runs) if after is None else sorted(runs, key=lambda run: run[0].index // after)


class Collector:
    """Collects the rollouts of one phase and step.

    A rollout that an earlier process of the job already graded is taken from the store; one whose infrastructure
    failed is tried again. In deterministic jobs rollouts run in fixed units, one after another, and a unit is kept
    only when all of it is graded: what one rollout shares a batch with then depends on nothing else. What a failed one
    gets depends on all, so it is settled at the end, also of those that were kept.

    Args:
        store, job_id: None keeps nothing.
    """

    def __init__(
        self, runtime: Runtime, *, progress: Progress, stop: Stop, store: RolloutStore | None = None, job_id: str = ""
    ) -> None:
        self._runtime = runtime
        self._progress = progress
        self._stop = stop
        self._store = store
        self._job_id = job_id

    async def collect(
        self,
        phase: str,
        step: int,
        tasks: Sequence[RolloutTask],
        *,
        unit: int = DETERMINISTIC_UNIT,
        decide_after: int | None = None,
    ) -> list[Rollout]:
        """The rollouts in the order of `tasks`, with rewards that are settled; deterministic jobs run `unit` at a time.

        Args:
            decide_after: leave out what has not begun of a group whose first so many rollouts are all right, and
                equally so. Not in deterministic jobs, where a unit begins as a whole.

        Raises:
            Interrupted: a stop was requested; what was graded is kept.
        """
        self._progress.phase(phase, step, len(tasks))
        self._runtime.toolbox.begin_step()
        done: dict[str, Rollout] = {}
        if self._store is not None:
            stored = self._store.pending_rollouts(self._job_id, phase, step)
            wanted = {task.key for task in tasks}
            done = {key: Rollout.from_dict(payload) for key, payload in stored.items() if key in wanted}
        for rollout in done.values():
            self._progress.rollout(rollout)
        deterministic = self._runtime.spec.deterministic
        size = unit if deterministic else max(1, len(tasks))
        failed_reward = self._runtime.failed_reward
        after = None if deterministic else decide_after
        decisions = Decisions(after, self._runtime.spec.pass_threshold, failed_reward, done.values())
        for start in range(0, len(tasks), size):
            missing = [task for task in tasks[start : start + size] if task.key not in done]
            if missing:
                self._stop.check()
                done |= await self._run_unit(phase, step, missing, decisions)
        rollouts = [done[task.key] for task in tasks if task.key in done]
        failed_reward.settle(rollouts, by_group=phase == TRAIN)
        return rollouts

    async def _run_unit(
        self, phase: str, step: int, tasks: Sequence[RolloutTask], decisions: "Decisions"
    ) -> dict[str, Rollout]:
        done: dict[str, Rollout] = {}
        deterministic = self._runtime.spec.deterministic
        # In deterministic mode the engine waits for all open sessions, so all are opened before any begins.
        engine = self._runtime.engine
        sessions = [await engine.open() if deterministic else None for _ in tasks]

        async def run(task: RolloutTask, session: Session | None) -> None:
            opened = session or await engine.open()
            try:
                if decisions.is_decided(task.sample.sample_id):
                    return
                rollout = await self._runtime.runner.run(task, opened)
            finally:
                opened.close()
            done[task.key] = rollout
            decisions.add(rollout)
            if self._store is not None and not deterministic and rollout.outcome != "infra_failed":
                self._store.add_pending_rollout(self._job_id, phase, step, task.key, rollout.as_dict())
            self._progress.rollout(rollout)

        async def run_all() -> None:
            async with asyncio.TaskGroup() as group:
                for task, session in decisions.in_order(zip(tasks, sessions, strict=True)):
                    group.create_task(run(task, session))

        with with_attributes({"agentrft.phase": phase}):
            await self._stop.or_stopped(run_all())
        graded = all(rollout.outcome != "infra_failed" for rollout in done.values())
        if self._store is not None and deterministic and graded:
            rows = [PendingRollout(phase, step, task.key, done[task.key].as_dict()) for task in tasks]
            self._store.add_pending_rollouts(self._job_id, rows)
        return done
