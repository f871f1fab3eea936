"""Rollouts that run ahead of the steps, and go on over updates.

Samples are drawn in the order in which a job that waits would draw them, and their groups begin as the staleness gate
lets them. A step begins as soon as enough groups have ended, whichever these are, so that no slow rollout holds it; of
more than enough it takes the oldest. A group whose oldest token lacks more updates than the job allows is given up,
counted, and begun again.

What is on disk at any moment: every graded rollout, under its sample's own step, until the step that trains on it is
committed; and with each step's metrics, which samples were trained on. So a killed job goes on by samples: none is
trained on twice, none is left out, and what was graded of unfinished groups is used.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from agentrft.data import Sample
from agentrft.job.collect import Decisions, RolloutStore
from agentrft.job.draw import SampleDraw
from agentrft.job.group_ahead import GroupAhead
from agentrft.job.group_source import Spent
from agentrft.job.progress import Progress
from agentrft.job.runtime import Runtime
from agentrft.job.staleness_gate import StalenessGate
from agentrft.job.stop import Stop
from agentrft.job.tasks import rollout_tasks
from agentrft.report.summary import SAME_REWARD
from agentrft.rollout import GroupResult, Rollout, RolloutTask, by_sample, form_group
from agentrft.store import PendingKey
from agentrft.store.layout import TRAIN
from agentrft.tracing import with_attributes


class GroupsAhead:
    """Keeps rollouts in flight and hands finished groups to steps: a `GroupSource`.

    Two groups of one sample that a step takes become one. What is done when one ends takes as long among ten thousand
    as among ten: all are looked at only when the policy has moved on, and when a step takes its own.

    Args:
        store, job_id: where graded rollouts are kept until the step that takes them is committed.
    """

    def __init__(self, runtime: Runtime, store: RolloutStore, job_id: str, *, progress: Progress, stop: Stop) -> None:
        hyperparameters, concurrency = runtime.hyperparameters, runtime.spec.engine.max_concurrent_rollouts
        self._runtime = runtime
        self._store = store
        self._job_id = job_id
        self._progress = progress
        self._stop = stop
        self._draw = SampleDraw(runtime.train, hyperparameters, runtime.spec.seed)
        self._gate = StalenessGate(
            eta=hyperparameters.max_off_policy_steps,
            # Each that runs has at least one rollout in the engine.
            concurrency=concurrency,
            groups_through=self._draw.through,
            last_step=hyperparameters.max_steps,
        )
        # Of rollouts: whoever validates meanwhile need not wait behind all that have begun.
        self._rooms = asyncio.Semaphore(concurrency)
        # That wait for one. No group begins while there are as many as a group has: they would wait behind others, by
        # the policy of today.
        self._queued = 0
        self._running: dict[int, GroupAhead] = {}
        self._finished: list[GroupAhead] = []
        # Of these, those that a step may count, those of which the progress knows, and the others in their order.
        self._ready = self._told = 0
        self._untold: deque[GroupAhead] = deque()
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None
        self._closed = False
        # Places that are to be begun before any later one, and how often each was given up.
        self._todo: deque[tuple[int, int]] = deque()
        self._next = 0
        # Trained on are all places before `_drawn` but those that wait.
        self._drawn = 0
        self._waiting: set[int] = set()
        self._steps = 0
        self._taken = 0
        self._budget = hyperparameters.dynamic_sampling
        self._stored: dict[int, dict[str, Any]] = {}
        self._too_old = 0
        self._settled: list[PendingKey] = []
        self._since: tuple[float, float] | None = None
        self._wanted = 0
        self._spent: dict[int, Spent] = {}

    @property
    def in_flight(self) -> int:
        """See `GroupSource`."""
        return sum(group.in_flight for group in self._running.values())

    def resume(self, last: int, metrics: Mapping[str, Any] | None) -> None:
        """See `GroupSource`."""
        known: Mapping[str, Any] = (metrics or {}).get("draw") or {"drawn": self._draw.through(last), "waiting": []}
        self._drawn = self._next = known["drawn"]
        self._waiting = set(known["waiting"])
        self._todo.extend((place, 0) for place in sorted(self._waiting))
        self._steps, self._taken = last, self._draw.through(last)

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """See `GroupSource`: the policy has moved on, and others may begin."""
        self._draw.note(step, rollouts)
        self._spent.pop(step, None)
        if self._since is not None:
            self._steps = step
            self._draw.forget_before(self._draw.step_of(min(self._waiting, default=self._drawn)))
            self._give_up_old()
            self._begin()

    def spent(self, step: int) -> Spent:
        """See `GroupSource`."""
        return self._spent[step]

    async def groups(self, step: int) -> AsyncIterator[GroupResult]:
        """See `GroupSource`: of those that have ended, begun as far ahead as the gate lets them."""
        runtime, each = self._runtime, self._runtime.hyperparameters.rollouts_per_sample
        size = self._draw.through(step) - self._draw.through(step - 1)
        self._progress.phase(TRAIN, step, size * each)
        runtime.toolbox.begin_step()
        self._wanted = size
        self._since = self._since or self._now()
        self._give_up_old()
        self._begin()
        await self._stop.or_stopped(self._until_finished(size))
        taken = self._take(size)
        rollouts = _as_of_step(taken, step)
        runtime.failed_reward.settle(rollouts, by_group=True)
        now = self._now()
        self._spent[step] = Spent(
            skipped=len(taken) * each - len(rollouts),
            replaced=sum(group.replaced for group in taken),
            rollout_s=now[0] - self._since[0],
            engine_busy_s=now[1] - self._since[1],
            too_old=self._too_old,
            settled=[*self._settled, *(key for group in taken for key in group.keys)],
            metrics={"draw": {"drawn": self._drawn, "waiting": sorted(self._waiting)}},
        )
        self._since, self._too_old, self._settled, self._wanted = now, 0, [], 0
        for sample_id, members in by_sample(rollouts).items():
            yield form_group(sample_id, members)

    async def close(self) -> None:
        """See `GroupSource`."""
        self._closed = True
        works = [group.work for group in self._running.values() if group.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    # --- what begins, and ends

    def _begin(self) -> None:
        """As many groups as the gate lets begin."""
        while not self._closed and self._failure is None:
            capacity = self._gate.capacity(
                version=self._steps, running=len(self._running), accepted=self._taken + self._ready
            )
            if capacity < 1 or self._queued >= self._runtime.hyperparameters.rollouts_per_sample:
                return
            group = self._next_group()
            self._running[group.place] = group
            group.queued = len(group.tasks) - len(group.ended)
            self._queued += group.queued
            group.work = asyncio.create_task(self._roll_out(group), name=f"agentrft-group-{group.place}")
            group.work.add_done_callback(lambda _, group=group: self._on_end(group))

    def _next_group(self) -> GroupAhead:
        place, again = self._todo.popleft() if self._todo else (self._next, 0)
        self._next = max(self._next, place + 1)
        step, sample = self._draw.step_of(place), self._draw.at(place)
        if step not in self._stored:
            self._stored[step] = self._store.pending_rollouts(self._job_id, TRAIN, step)
        stored = self._stored[step]
        group, later = (self._group(place, step, sample, number) for number in (again, again + 1))
        while later.is_in(stored):
            # An earlier process had begun it anew; what it gave up is still stored where no step's metrics tell of it.
            if group.is_in(stored):
                self._count_as_too_old(group)
            group, later = later, self._group(place, step, sample, later.again + 1)
        for task in group.tasks:
            if task.key in stored:
                group.end(task.key, Rollout.from_dict(stored.pop(task.key)))
        return group

    def _group(self, place: int, step: int, sample: Sample, again: int) -> GroupAhead:
        hyperparameters = self._runtime.hyperparameters
        tasks = rollout_tasks(
            [sample],
            step=step,
            rollouts_per_sample=hyperparameters.rollouts_per_sample,
            temperature=hyperparameters.temperature,
            top_p=hyperparameters.top_p,
            seed=self._runtime.spec.seed,
            policy_version=self._runtime.engine.policy_version,
            again=again,
        )
        return GroupAhead(place, step, sample, again, tasks)

    async def _roll_out(self, group: GroupAhead) -> None:
        runtime = self._runtime
        decisions = Decisions(
            runtime.hyperparameters.decide_after, runtime.spec.pass_threshold, runtime.failed_reward, group.rollouts
        )

        async def run(task: RolloutTask) -> None:
            async with self._rooms:
                group.queued -= 1
                self._queued -= 1
                self._begin()
                session = await runtime.engine.open()
                group.in_flight += 1
                try:
                    if decisions.is_decided(group.sample.sample_id):
                        return
                    rollout = await runtime.runner.run(task, session)
                finally:
                    group.in_flight -= 1
                    session.close()
            group.end(task.key, rollout)
            decisions.add(rollout)
            if rollout.outcome != "infra_failed":
                self._store.add_pending_rollout(self._job_id, TRAIN, task.step, task.key, rollout.as_dict())
                self._give_up_if_old(group)

        with with_attributes({"agentrft.phase": TRAIN}):
            async with asyncio.TaskGroup() as runs:
                for task in group.tasks:
                    if task.key not in group.ended:
                        runs.create_task(run(task))

    def _on_end(self, group: GroupAhead) -> None:
        del self._running[group.place]
        # Those that were cancelled before they had a room.
        self._queued -= group.queued
        work = group.work
        if self._closed or work is None:
            return
        failure = asyncio.CancelledError() if work.cancelled() else work.exception()
        if group.given_up and work.cancelled():
            self._begin_again(group)
        elif failure is not None:
            self._failure = failure
        else:
            if self._budget and self._has_no_variance(group):
                group.replaced = True
                self._budget -= 1
            self._finish(group)
        self._begin()
        self._changed.set()

    def _has_no_variance(self, group: GroupAhead) -> bool:
        """Whether it has nothing to teach; not where infrastructure broke it."""
        if form_group(group.sample.sample_id, group.rollouts).was_dropped:
            return False
        rewards = self._runtime.failed_reward.rewards(group.rollouts)
        return max(rewards) - min(rewards) <= SAME_REWARD

    def _finish(self, group: GroupAhead) -> None:
        if self._is_old(group):
            self._begin_again(group)
            return
        self._finished.append(group)
        self._untold.append(group)
        self._ready += not group.replaced

    def _leave(self, groups: Collection[GroupAhead]) -> None:
        """They are finished groups no longer."""
        left = set(groups)
        if left:
            self._finished = [group for group in self._finished if group not in left]
            self._untold = deque(group for group in self._untold if group not in left)
            self._ready -= sum(not group.replaced for group in left)
            self._told -= sum(group.told for group in left)

    # --- what is too old

    def _is_old(self, group: GroupAhead) -> bool:
        return group.oldest_version < self._runtime.policy.version - self._gate.eta

    def _give_up_old(self) -> None:
        """Give up what no step may train on any more, now that the policy has moved on."""
        old = [group for group in self._finished if self._is_old(group)]
        self._leave(old)
        for group in old:
            self._begin_again(group)
        for group in self._running.values():
            self._give_up_if_old(group)

    def _give_up_if_old(self, group: GroupAhead) -> None:
        """Of a group that runs."""
        if group.work is not None and not group.given_up and self._is_old(group):
            group.given_up = True
            group.work.cancel()

    def _begin_again(self, group: GroupAhead) -> None:
        self._count_as_too_old(group)
        self._todo.append((group.place, group.again + 1))

    def _count_as_too_old(self, group: GroupAhead) -> None:
        self._too_old += 1
        self._settled += group.keys

    # --- what a step takes

    async def _until_finished(self, size: int) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            self._tell()
            if self._ready >= size:
                return
            self._changed.clear()
            await self._changed.wait()

    def _tell(self) -> None:
        """Tell of as many groups as the step will take."""
        while self._told < self._wanted and self._untold:
            group = self._untold.popleft()
            group.told = True
            self._told += 1
            for rollout in group.rollouts:
                self._progress.rollout(rollout)

    def _take(self, size: int) -> list[GroupAhead]:
        """So many groups, those first that would be too old soonest, and the groups that they replace."""
        taken: list[GroupAhead] = []
        self._finished.sort(key=lambda group: group.oldest_version)
        for group in self._finished:
            if group.replaced or size > 0:
                taken.append(group)
                size -= not group.replaced
        self._leave(taken)
        for group in taken:
            self._waiting.discard(group.place)
            self._waiting.update(range(self._drawn, group.place))
            self._drawn = max(self._drawn, group.place + 1)
        self._taken += sum(not group.replaced for group in taken)
        self._budget = self._runtime.hyperparameters.dynamic_sampling
        return taken

    def _now(self) -> tuple[float, float]:
        """The time, and the engine's part of it, in seconds."""
        return time.perf_counter(), self._runtime.engine.busy_s


def _as_of_step(groups: list[GroupAhead], step: int) -> list[Rollout]:
    """The groups' rollouts as those of the step that trains on them; of one sample, numbered through."""
    counts = Counter(group.sample.sample_id for group in groups)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    for sample_id, members in by_sample(rollouts).items():
        for number, rollout in enumerate(members):
            rollout.step = step
            if counts[sample_id] > 1:
                rollout.index = number
    return rollouts
