"""A handful of real rollouts, with a deadline: as many as a step has, or as end in time."""

import asyncio
import time
from dataclasses import dataclass, replace

from agentrft.job.check.findings import CheckReport
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import samples_of_step
from agentrft.job.tasks import rollout_tasks
from agentrft.job.training_data import training_group
from agentrft.learner import TrainingGroup
from agentrft.rollout import Rollout, RolloutTask, by_sample

MOST_ROLLOUTS = 48
DEADLINE_S = 25.0


@dataclass(frozen=True)
class Trial:
    """Rollouts, and the seconds that they took together.

    Attributes:
        is_trained: whether the policy was more than the base model.
    """

    rollouts: list[Rollout]
    seconds: float
    is_trained: bool

    @property
    def groups(self) -> list[TrainingGroup]:
        """What an update can be tried with: the rollouts by sample, every other one rewarded where all got the same."""
        rewarded = by_sample(one for one in self.rollouts if one.reward is not None and one.turns)
        return [_teaching(training_group(group)) for group in rewarded.values() if len(group) > 1]


def _teaching(group: TrainingGroup) -> TrainingGroup:
    if max(group.rewards) > min(group.rewards):
        return group
    return replace(group, rewards=[float(number % 2) for number in range(group.rollouts)])


async def roll_out(runtime: Runtime, report: CheckReport, *, is_trained: bool) -> Trial:
    """Roll out the first step's samples by the code that training uses; nothing is kept.

    In order, so that the whole group of a sample ends before its deadline rather than a part of each.
    """
    hyperparameters = runtime.hyperparameters
    samples = samples_of_step(runtime.train, batch_size=hyperparameters.batch_size, seed=runtime.spec.seed, step=1)
    k = hyperparameters.rollouts_per_sample
    tasks = rollout_tasks(
        samples[: max(1, MOST_ROLLOUTS // k)],
        step=1,
        rollouts_per_sample=min(k, MOST_ROLLOUTS),
        temperature=hyperparameters.temperature,
        top_p=hyperparameters.top_p,
        seed=runtime.spec.seed,
        policy_version=runtime.policy.version,
    )
    if runtime.workers is not None:
        # Not within the deadline of what they run.
        await runtime.workers.start()
    started = time.perf_counter()
    running = [asyncio.create_task(_run(runtime, task)) for task in tasks]
    try:
        done, late = await asyncio.wait(running, timeout=DEADLINE_S)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    seconds = time.perf_counter() - started
    rollouts = [one.result() for one in running if one in done]
    runtime.failed_reward.settle(rollouts, by_group=True)
    if late and not rollouts:
        report.error(
            "rollouts",
            f"none of {len(tasks)} ended within {DEADLINE_S:g} s.",
            "Lower max_tokens_per_turn or max_episode_steps, take a smaller model, or look at the tools' latency.",
        )
    elif late:
        report.ok("rollouts", f"{len(rollouts)} of {len(tasks)} ended within {DEADLINE_S:g} s; the rest was left")
    return Trial(rollouts, seconds, is_trained)


async def _run(runtime: Runtime, task: RolloutTask) -> Rollout:
    session = await runtime.engine.open()
    try:
        return await runtime.runner.run(task, session)
    finally:
        session.close()
