"""The rollouts of training steps: which samples, by which policy, and when.

Where the job allows it (`max_off_policy_steps: 1`) the rollouts of a step are sampled while the step before it is
trained on. The engine then has a copy of the model, which is a version behind when its rollouts are trained on; the
importance ratio against the log-probabilities they were sampled with corrects for that, and its truncation bounds it.
"""

import asyncio
import time
from dataclasses import dataclass

from agentrft.data import Sample
from agentrft.job.collect import Collector
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import Difficulty, samples_of_step
from agentrft.job.tasks import rollout_tasks
from agentrft.rollout import Rollout
from agentrft.store.layout import TRAIN


@dataclass(frozen=True)
class StepRollouts:
    """What was sampled for a step.

    Attributes:
        skipped: rollouts that did not begin because their group was decided.
        rollout_s, engine_busy_s: seconds that they took, and of these the engine's.
    """

    rollouts: list[Rollout]
    skipped: int
    rollout_s: float
    engine_busy_s: float

    def steps_behind(self, version: int) -> int:
        """How many updates the oldest policy that sampled them lacks of `version`."""
        sampled_by = [turn.policy_version for rollout in self.rollouts for turn in rollout.turns]
        return max((version - sampling for sampling in sampled_by), default=0)


class StepSampler:
    """Samples the rollouts of one training step after another, at most one ahead."""

    def __init__(self, runtime: Runtime, collector: Collector) -> None:
        self._runtime = runtime
        self._collector = collector
        self._difficulty = Difficulty()
        self._unnoted: dict[int, list[Rollout]] = {}
        self._ahead: asyncio.Task[StepRollouts] | None = None

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """Remember how difficult the samples of a finished step were."""
        self._unnoted[step] = rollouts

    async def begin(self, step: int) -> None:
        """Start to sample with the policy as it is now. No update may be running yet, and no other step begun."""
        await self._runtime.publish_policy()
        self._ahead = asyncio.create_task(self._sample(step), name=f"agentrft-rollouts-of-step-{step}")

    async def rollouts_of(self, step: int) -> StepRollouts:
        """What `begin` began, or else sampled now.

        Raises:
            Interrupted: a stop was requested; what was graded is kept.
        """
        begun, self._ahead = self._ahead, None
        return await (self._sample(step) if begun is None else begun)

    async def close(self) -> None:
        """Give up what was begun and not asked for."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
            self._ahead = None

    async def _sample(self, step: int) -> StepRollouts:
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        started, busy_before = time.perf_counter(), runtime.engine.busy_s
        tasks = rollout_tasks(
            self._samples_of(step),
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
        return StepRollouts(
            rollouts,
            skipped=len(tasks) - len(rollouts),
            rollout_s=time.perf_counter() - started,
            engine_busy_s=runtime.engine.busy_s - busy_before,
        )

    def _samples_of(self, step: int) -> list[Sample]:
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        size, seed = hyperparameters.batch_size, runtime.spec.seed
        if hyperparameters.sample_by != "difficulty":
            return samples_of_step(runtime.train, batch_size=size, seed=seed, step=step)
        # Only what is always known by then, so that a resumed job draws what the interrupted one drew.
        for known in sorted(s for s in self._unnoted if s < step - hyperparameters.max_off_policy_steps):
            self._record_difficulty(self._unnoted.pop(known))
        return self._difficulty.samples_of_step(runtime.train, batch_size=size, seed=seed, step=step)

    def _record_difficulty(self, rollouts: list[Rollout]) -> None:
        rewards: dict[str, list[float]] = {}
        for rollout in rollouts:
            if rollout.reward is not None:
                rewards.setdefault(rollout.sample_id, []).append(rollout.reward)
        for sample_id, known in rewards.items():
            self._difficulty.record(sample_id, known)
