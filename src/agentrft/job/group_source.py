"""Where groups come from: which samples a step rolls out, by which policy, and when.

Where the job allows it (`max_off_policy_steps: 1`) the rollouts of a step are sampled while the step before it is
trained on. The engine then has a copy of the model, which is a version behind when its rollouts are trained on; the
importance ratio against the log-probabilities they were sampled with corrects for that, and its truncation bounds it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrft.data import Sample
from agentrft.job.collect import Collector
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import Difficulty, samples_of_step, shuffled
from agentrft.job.tasks import rollout_tasks
from agentrft.report.summary import SAME_REWARD
from agentrft.rollout import GroupResult, Rollout, by_sample, form_group
from agentrft.store.layout import TRAIN


@dataclass(frozen=True)
class Spent:
    """What the groups of a step cost.

    Attributes:
        skipped: rollouts that did not begin because their group was decided.
        replaced: groups without variance for which others were sampled.
        rollout_s, engine_busy_s: seconds that the rollouts took, and of these the engine's.
    """

    skipped: int
    replaced: int
    rollout_s: float
    engine_busy_s: float


class GroupSource(Protocol):
    """Gives the groups of each step, finished, and at most so many policy versions old as the job allows."""

    def groups(self, step: int) -> AsyncIterator[GroupResult]:
        """The groups of a step.

        Raises:
            Interrupted: a stop was requested; what was graded is kept.
        """
        ...

    def spent(self, step: int) -> Spent:
        """Of a step whose groups were all given."""
        ...

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """Remember a step that is committed: later ones may be drawn by what it says."""
        ...

    async def begin(self, step: int) -> None:
        """Begin a step's rollouts before its groups are asked for. No update may be running yet, nor another step."""
        ...

    async def close(self) -> None:
        """Give up what was begun and not asked for."""
        ...


class LocalGroups:
    """Samples one training step after another in this process, at most one ahead."""

    def __init__(self, runtime: Runtime, collector: Collector) -> None:
        self._runtime = runtime
        self._collector = collector
        self._difficulty = Difficulty()
        self._unnoted: dict[int, list[Rollout]] = {}
        self._ahead: asyncio.Task[list[GroupResult]] | None = None
        self._spent: dict[int, Spent] = {}

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """See `GroupSource`."""
        if self._runtime.hyperparameters.sample_by == "difficulty":
            self._unnoted[step] = rollouts
        self._spent.pop(step, None)

    async def begin(self, step: int) -> None:
        """See `GroupSource`."""
        await self._runtime.publish_policy()
        self._ahead = asyncio.create_task(self._sample(step), name=f"agentrft-rollouts-of-step-{step}")

    async def groups(self, step: int) -> AsyncIterator[GroupResult]:
        """See `GroupSource`: what `begin` began, or else sampled now."""
        begun, self._ahead = self._ahead, None
        for group in await (self._sample(step) if begun is None else begun):
            yield group

    def spent(self, step: int) -> Spent:
        """See `GroupSource`."""
        return self._spent[step]

    async def close(self) -> None:
        """See `GroupSource`."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
            self._ahead = None

    async def _sample(self, step: int) -> list[GroupResult]:
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        started, busy_before = time.perf_counter(), runtime.engine.busy_s
        samples = self._samples_of(step)
        groups, wanted = await self._roll_out(step, samples), len(samples)
        budget, flat = hyperparameters.dynamic_sampling, _without_variance(groups)
        while flat and budget:
            others = self._others(step, {group.sample_id for group in groups})[: min(flat, budget)]
            if not others:
                break
            more = await self._roll_out(step, others)
            groups, wanted, budget, flat = (
                groups + more,
                wanted + len(others),
                budget - len(others),
                _without_variance(more),
            )
        rollouts = sum(len(group.rollouts) for group in groups)
        self._spent[step] = Spent(
            skipped=wanted * hyperparameters.rollouts_per_sample - rollouts,
            replaced=wanted - len(samples),
            rollout_s=time.perf_counter() - started,
            engine_busy_s=runtime.engine.busy_s - busy_before,
        )
        return groups

    async def _roll_out(self, step: int, samples: Sequence[Sample]) -> list[GroupResult]:
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        tasks = rollout_tasks(
            samples,
            step=step,
            rollouts_per_sample=hyperparameters.rollouts_per_sample,
            temperature=hyperparameters.temperature,
            top_p=hyperparameters.top_p,
            seed=runtime.spec.seed,
            policy_version=runtime.engine.policy_version,
        )
        rollouts = await self._collector.collect(
            TRAIN, step, tasks, unit=hyperparameters.rollouts_per_sample, decide_after=hyperparameters.decide_after
        )
        return [form_group(sample_id, members) for sample_id, members in by_sample(rollouts).items()]

    def _samples_of(self, step: int) -> list[Sample]:
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        size, seed = hyperparameters.batch_size, runtime.spec.seed
        if hyperparameters.sample_by != "difficulty":
            return samples_of_step(runtime.train, batch_size=size, seed=seed, step=step)
        # Only what is always known by then, so that a resumed job draws what the interrupted one drew.
        for known in sorted(s for s in self._unnoted if s < step - hyperparameters.max_off_policy_steps):
            self._record_difficulty(self._unnoted.pop(known))
        return self._difficulty.samples_of_step(runtime.train, batch_size=size, seed=seed, step=step)

    def _others(self, step: int, known: set[str]) -> list[Sample]:
        """Samples that may take the place of others, in the order in which they do."""
        others = [sample for sample in self._runtime.train if sample.sample_id not in known]
        seed = self._runtime.spec.seed
        if self._runtime.hyperparameters.sample_by == "difficulty":
            return self._difficulty.samples_of_step(others, batch_size=len(others), seed=seed, step=step)
        return shuffled(others, f"{seed}/replaced/{step}")

    def _record_difficulty(self, rollouts: list[Rollout]) -> None:
        for sample_id, group in by_sample(rollouts).items():
            self._difficulty.record(sample_id, [one.reward for one in group if one.reward is not None])


def _without_variance(groups: Sequence[GroupResult]) -> int:
    """How many groups have nothing to teach; one that infrastructure broke is not among them."""
    rewards = [[rollout.reward or 0.0 for rollout in group.kept] for group in groups if not group.was_dropped]
    return sum(max(one) - min(one) <= SAME_REWARD for one in rewards)
