"""Groups that run ahead, with a scripted engine and runner: time is counted in turns of the event loop."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from agentrft.data import Sample
from agentrft.job import NoProgress, Stop
from agentrft.job.groups_ahead import GroupsAhead
from agentrft.job.runtime import Runtime
from agentrft.job.token_age import Age, age_of
from agentrft.rollout import FailedReward, Rollout, RolloutTask, Turn
from agentrft.store import PendingKey
from agentrft.tools import Toolbox

EACH = 3


class Killed(Exception):
    """The process ends, without any word to anybody."""


@dataclass
class Disk:
    """What outlives a process: graded rollouts of the steps in progress, and steps."""

    pending: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    steps: list[list[Rollout]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def pending_rollouts(self, job_id: str, phase: str, step: int) -> dict[str, dict[str, Any]]:
        return {key: payload for (of, key), payload in self.pending.items() if of == step}

    def add_pending_rollout(self, job_id: str, phase: str, step: int, key: str, payload: dict[str, Any]) -> None:
        if (step, key) in self.pending:
            raise ValueError(f"{key} of step {step} is there already")
        self.pending[step, key] = payload

    def add_pending_rollouts(self, job_id: str, rollouts: Sequence[Any]) -> None:
        raise NotImplementedError

    def commit(self, rollouts: list[Rollout], metrics: dict[str, Any], settled: Sequence[PendingKey]) -> None:
        self.steps.append(rollouts)
        self.metrics.append(metrics)
        for key in settled:
            self.pending.pop(tuple(key), None)


@dataclass
class Outcome:
    """Of one rollout: how many turns of the loop it takes, its reward, and whether infrastructure breaks it."""

    ticks: int = 1
    reward: float | None = None
    breaks: bool = False


class Engine:
    """Sessions of a version that moves on."""

    def __init__(self, version: int, rooms: int) -> None:
        self.policy_version = version
        self.busy_s = 0.0
        self.open_now = self.most_open = 0
        self._rooms = asyncio.Semaphore(rooms)

    async def open(self) -> "Engine":
        await self._rooms.acquire()
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        return self

    def close(self) -> None:
        self.open_now -= 1
        self._rooms.release()


@dataclass
class Process:
    """One life of a job: `outcome` says how each rollout goes."""

    disk: Disk
    outcome: Callable[[RolloutTask], Outcome]
    samples: int = 4
    batch: int = 2
    steps: int = 6
    eta: int = 2
    concurrency: int = 6
    dynamic_sampling: int = 0
    decide_after: int = EACH
    update_ticks: int = 3
    ended: list[Rollout] = field(default_factory=list)
    begun: list[tuple[int, str]] = field(default_factory=list)
    most_running: int = 0

    def __post_init__(self) -> None:
        self.stop = Stop()
        self.version = len(self.disk.steps)
        self.engine = Engine(self.version, self.concurrency)
        self.policy = SimpleNamespace(version=self.version)
        hyperparameters = SimpleNamespace(
            max_off_policy_steps=self.eta,
            max_steps=self.steps,
            batch_size=self.batch,
            sample_by="epoch",
            dynamic_sampling=self.dynamic_sampling,
            decide_after=self.decide_after,
            rollouts_per_sample=EACH,
            temperature=1.0,
            top_p=1.0,
        )
        spec = SimpleNamespace(
            engine=SimpleNamespace(max_concurrent_rollouts=self.concurrency), seed=7, pass_threshold=1.0
        )
        runtime = SimpleNamespace(
            hyperparameters=hyperparameters,
            spec=spec,
            train=[Sample(f"s{number}", [], item={}) for number in range(self.samples)],
            engine=self.engine,
            policy=self.policy,
            runner=self,
            toolbox=Toolbox(),
            failed_reward=FailedReward(0.0),
        )
        self.source = GroupsAhead(cast(Runtime, runtime), self.disk, "job", progress=NoProgress(), stop=self.stop)
        self.source.resume(len(self.disk.steps), self.disk.metrics[-1] if self.disk.metrics else None)

    async def run(self, task: RolloutTask, session: Engine) -> Rollout:
        """As `RolloutRunner.run`: one turn whose tokens are of whichever version there is."""
        self.begun.append((task.step, task.key))
        self.most_running = max(self.most_running, len(self.source._running))
        assert self.engine.policy_version >= task.policy_version
        outcome, spans = self.outcome(task), Counter[int]()
        for _ in range(outcome.ticks):
            spans[self.engine.policy_version] += 1
            await asyncio.sleep(0)
        versions = [[version, tokens] for version, tokens in sorted(spans.items())]
        turn = Turn([1], [2] * outcome.ticks, [-1.0] * outcome.ticks, "stop", versions[0][0], versions=versions)
        reward = outcome.reward if outcome.reward is not None else float(task.index)
        rollout = Rollout(
            f"trace_{uuid.uuid4().hex}",
            1,
            task.sample.sample_id,
            task.step,
            task.index,
            "infra_failed" if outcome.breaks else "graded",
            [turn],
            [],
            failure_kind="tool:down" if outcome.breaks else None,
            reward=None if outcome.breaks else reward,
        )
        self.ended.append(rollout)
        return rollout

    async def train(self, until_tick: int | None = None) -> list[Age]:
        """All steps that are left; the ages of what each trained on.

        Raises:
            Killed: so many turns of the loop have passed.
        """
        ages: list[Age] = []
        training = asyncio.create_task(self._train(ages))
        try:
            ticks = 0
            while not training.done():
                if ticks == until_tick:
                    raise Killed
                await asyncio.sleep(0)
                ticks += 1
            await training
        finally:
            # Nothing more reaches the disk.
            self.source._store = Disk()
            training.cancel()
            with suppress(asyncio.CancelledError):
                await training
            await self.source.close()
        return ages

    async def _train(self, ages: list[Age]) -> None:
        for step in range(len(self.disk.steps) + 1, self.steps + 1):
            groups = [group async for group in self.source.groups(step)]
            assert len({group.sample_id for group in groups}) == len(groups)
            rollouts = [rollout for group in groups for rollout in group.rollouts]
            ages.append(age_of([one for group in groups for one in group.kept], self.policy.version))
            spent = self.source.spent(step)
            for _ in range(self.update_ticks):
                await asyncio.sleep(0)
            self.policy.version += 1
            await asyncio.sleep(0)
            self.engine.policy_version = self.policy.version
            await asyncio.sleep(0)
            assert spent.settled is not None and spent.metrics is not None
            counts = {"too_old": spent.too_old, "replaced": spent.replaced, "skipped": spent.skipped}
            self.disk.commit(rollouts, {**spent.metrics, **counts}, spent.settled)
            self.source.note(step, rollouts)
