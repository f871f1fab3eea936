"""Where groups come from: which samples a step rolls out, by which policy, and when.

By default a step's rollouts begin when the update before it is made, and the step waits for all of them. Where the job
allows it (`max_off_policy_steps`), rollouts run ahead of the steps and go on over updates: `groups_ahead.py`.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentrft.data import Sample
from agentrft.job.collect import Collector
from agentrft.job.draw import SampleDraw
from agentrft.job.runtime import Runtime
from agentrft.job.tasks import rollout_tasks
from agentrft.report.summary import SAME_REWARD
from agentrft.rollout import GroupResult, Rollout, by_sample, form_group
from agentrft.store import PendingKey
from agentrft.store.layout import TRAIN


@dataclass(frozen=True)
class Spent:
    """What the groups of a step cost.

    Attributes:
        skipped: rollouts that did not begin because their group was decided.
        replaced: groups without variance for which others were sampled.
        rollout_s, engine_busy_s: seconds that the rollouts took, and of these the engine's; of rollouts that run ahead,
            since the step before had its groups.
        too_old: groups that were given up because the policy had moved on too far.
        settled: what of the pending rollouts is done with when the step is committed; None for all of the step's.
        metrics: of how the source works, for the step's record.
    """

    skipped: int
    replaced: int
    rollout_s: float
    engine_busy_s: float
    too_old: int = 0
    settled: Sequence[PendingKey] | None = None
    metrics: Mapping[str, Any] | None = None


class GroupSource(Protocol):
    """Gives the groups of each step, finished, and at most so many policy versions old as the job allows."""

    @property
    def in_flight(self) -> int:
        """Rollouts that have begun and not ended."""
        ...

    def resume(self, last: int, metrics: Mapping[str, Any] | None) -> None:
        """Go on behind the last committed step.

        Args:
            last: its number, 0 where there is none.
            metrics: that were committed with it.
        """
        ...

    def groups(self, step: int) -> AsyncIterator[GroupResult]:
        """The groups of a step, of different samples.

        Raises:
            Interrupted: a stop was requested; what was graded is kept.
        """
        ...

    def spent(self, step: int) -> Spent:
        """Of a step whose groups were all given."""
        ...

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """Remember a step that is committed: what comes later may depend on it."""
        ...

    async def close(self) -> None:
        """Give up what was begun and not asked for."""
        ...


class LocalGroups:
    """Samples one training step after another, each by the newest policy."""

    def __init__(self, runtime: Runtime, collector: Collector) -> None:
        self._runtime = runtime
        self._collector = collector
        self._draw = SampleDraw(runtime.train, runtime.hyperparameters, runtime.spec.seed)
        self._spent: dict[int, Spent] = {}

    @property
    def in_flight(self) -> int:
        """See `GroupSource`: a step waits for all that it began."""
        return 0

    def resume(self, last: int, metrics: Mapping[str, Any] | None) -> None:
        """Nothing: see `GroupSource`."""

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """See `GroupSource`."""
        self._draw.note(step, rollouts)
        self._draw.forget_before(step + 1)
        self._spent.pop(step, None)

    async def groups(self, step: int) -> AsyncIterator[GroupResult]:
        """See `GroupSource`."""
        for group in await self._sample(step):
            yield group

    def spent(self, step: int) -> Spent:
        """See `GroupSource`."""
        return self._spent[step]

    async def close(self) -> None:
        """Nothing: see `GroupSource`."""

    async def _sample(self, step: int) -> list[GroupResult]:
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        started, busy_before = time.perf_counter(), runtime.engine.busy_s
        samples = self._draw.of_step(step)
        groups, wanted = await self._roll_out(step, samples), len(samples)
        budget, flat = hyperparameters.dynamic_sampling, _without_variance(groups)
        while flat and budget:
            others = self._draw.others(step, {group.sample_id for group in groups})[: min(flat, budget)]
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


def _without_variance(groups: Sequence[GroupResult]) -> int:
    """How many groups have nothing to teach; one that infrastructure broke is not among them."""
    rewards = [[rollout.reward or 0.0 for rollout in group.kept] for group in groups if not group.was_dropped]
    return sum(max(one) - min(one) <= SAME_REWARD for one in rewards)
