"""How long a job will take, and what it will use: the check's own speeds, times what the job does of each."""

import time
from collections.abc import Sequence

from agentrft.job.check.findings import CheckReport, Estimate
from agentrft.job.check.trial import Trial
from agentrft.job.runtime import Runtime
from agentrft.job.warm_start import demonstration_rows
from agentrft.learner import TrainingGroup
from agentrft.report import mean

NO_CHANGE = 1e-12


async def estimate(runtime: Runtime, trial: Trial, report: CheckReport) -> None:
    """Time an update and a batch of the warm start, whose results are thrown away, and sum up."""
    if not trial.rollouts:
        return
    hyperparameters, spec = runtime.hyperparameters, runtime.spec
    per_step = min(hyperparameters.batch_size, len(runtime.train)) * hyperparameters.rollouts_per_sample
    rollout_s = trial.seconds / len(trial.rollouts) * max(per_step, len(trial.rollouts))
    update_s = await _update_s(runtime, trial.groups, per_step)
    tried = _rollouts_of_warm_start(runtime)
    warm_start_s = await _warm_start_s(runtime) + tried * trial.seconds / len(trial.rollouts)
    validations = _validation_rollouts(runtime)
    validation_s = validations * trial.seconds / len(trial.rollouts)
    rollouts = hyperparameters.max_steps * per_step
    everything = tried + rollouts + validations
    graders = {} if report.grader is None else report.grader.tokens_per_grade
    found = Estimate(
        steps=hyperparameters.max_steps,
        rollouts=rollouts,
        validation_rollouts=validations,
        rollout_s=rollout_s,
        update_s=update_s,
        warm_start_s=warm_start_s,
        validation_s=validation_s,
        total_s=warm_start_s + validation_s + hyperparameters.max_steps * (rollout_s + update_s),
        sampled_tokens=round(everything * mean([one.sampled_tokens for one in trial.rollouts])),
        tool_calls=round(everything * mean([len(one.tool_calls) for one in trial.rollouts])),
        judge_tokens={name: round(everything * count) for name, count in graders.items()},
    )
    report.estimate = found
    judges = "".join(f", {count:,} {name} of judges" for name, count in found.judge_tokens.items())
    warm = " The model before its warm start was measured, and may write more or less than after it."
    report.ok(
        "estimate",
        f"about {_duration(found.total_s)} here: {found.steps} steps of {rollout_s:.1f} s rollouts and {update_s:.1f} "
        f"s update, {validation_s:.0f} s validation, {warm_start_s:.0f} s warm start; {everything:,} rollouts, "
        f"{found.sampled_tokens:,} sampled tokens, {found.tool_calls:,} tool calls{judges}."
        f"{warm if spec.warm_start is not None and not trial.is_trained else ''}",
    )


async def _update_s(runtime: Runtime, groups: Sequence[TrainingGroup], per_step: int) -> float:
    """Seconds of a step's update: one on what was rolled out."""
    if not groups:
        return 0.0
    learner = runtime.new_learner(learning_rate=NO_CHANGE, warm_up_steps=1, decay_steps=2)
    await runtime.engine.release_memory()
    started = time.perf_counter()
    await runtime.learn(learner, learner.update, learner.plan(groups))
    trained = sum(len(group.rewards) for group in groups)
    return (time.perf_counter() - started) * max(1.0, per_step / trained)


async def _warm_start_s(runtime: Runtime) -> float:
    spec = runtime.spec.warm_start
    if spec is None or not runtime.demonstrations:
        return 0.0
    learner = runtime.new_learner(learning_rate=NO_CHANGE, warm_up_steps=1, decay_steps=2)
    batch = runtime.demonstrations[: spec.batch_size]
    started = time.perf_counter()
    await runtime.learn(learner, learner.supervised_update, demonstration_rows(runtime, batch))
    batches = spec.n_epochs * len(runtime.demonstrations) / len(batch)
    return batches * (time.perf_counter() - started)


def _rollouts_of_warm_start(runtime: Runtime) -> int:
    spec = runtime.spec.warm_start
    if spec is None or spec.from_ is None:
        return 0
    return spec.rounds * min(spec.samples, len(runtime.train)) * spec.rollouts_per_sample


def _validation_rollouts(runtime: Runtime) -> int:
    hyperparameters, spec = runtime.hyperparameters, runtime.spec
    rows = len(runtime.validated)
    last, interval = hyperparameters.max_steps, hyperparameters.eval_interval
    times = last // interval + (last % interval > 0)
    baseline = len(runtime.baseline_samples) * spec.baseline.rollouts_per_sample if spec.baseline.enabled else 0
    # The test samples, by the model as it began and by the result.
    test = 2 * len(runtime.test) * hyperparameters.eval_samples
    return rows * hyperparameters.eval_samples * times + (baseline if rows else 0) + test


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
