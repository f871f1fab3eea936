"""Running a job from its record: the phases in order, each going on where an earlier process left off."""

import sys
from pathlib import Path
from typing import Any

from agentrft.errors import AgentRFTError, ArtifactsError, Interrupted, JobFailedError, JobPaused, NotTrainableError
from agentrft.job.checkpoint import remove_partial
from agentrft.job.inputs import check_unchanged, file_digests
from agentrft.job.metrics_out import MetricsOut
from agentrft.job.model_runtime import ModelRuntime
from agentrft.job.progress import Progress
from agentrft.job.references import starting_point
from agentrft.job.result_words import result_words, words_of_test
from agentrft.job.runtime import Runtime
from agentrft.job.secrets import restored_spec, stored_spec
from agentrft.job.spans import traced
from agentrft.job.stop import Stop
from agentrft.job.train import Trainer
from agentrft.job.tuning import TuningRuntime, tune
from agentrft.job.warm_start import warm_start
from agentrft.report.ways import Ways, cli_ways
from agentrft.sinks.requirements import check_requirements
from agentrft.spec import AnyJobSpec, BaseJobSpec, JobSpec, ResolvedHyperparameters, ResolvedTuning, TuningSpec
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TRAIN, step_folder

# What a job had that began before there was a choice; "auto" has become something else since.
BEFORE: dict[str, Any] = {
    "lora_experts": False,
    "minibatches": 1,
    "update_epochs": 1,
    "clip_low": 0.2,
    "clip_high": 0.2,
    "advantage_by": "rollout",
    "advantage_std_floor": 0.0,
    "kl_weight": 0.0,
    "clip_cov": 0.0,
    "overlong": "fail",
    "length_penalty": 0.0,
    "replay_rollouts": 0,
    "borrow_answers": False,
    "replay_weight": 0.0,
    "sample_by": "epoch",
    # All of them.
    "eval_rows": sys.maxsize,
    "dynamic_sampling": 0,
    "checkpoint_interval": 1,
}
# As hosted Agent RFT says it.
COMPLETED = "The job has successfully completed"


def create_job(spec: BaseJobSpec, *, source: Path | None = None) -> tuple[JobStore, str]:
    """Store a new job; `run_job` runs it.

    Args:
        spec: of the job. Values of headers are left out of what is stored.
        source: the job's file, from which header values are read again on resuming.

    Returns:
        The store of its folder, and the job's id.

    Raises:
        UserError: the database of the folder of jobs cannot be used.
    """
    spec.output_dir.mkdir(parents=True, exist_ok=True)
    store = JobStore(spec.output_dir)
    record = {**stored_spec(spec, source), "files": file_digests(spec)}
    return store, store.create_job(record, model=spec.model, seed=spec.seed)


def resume_job(store: JobStore, job_id: str) -> AnyJobSpec:
    """The spec of a stored job, ready to run again, or, where it has rollouts, to be measured as it runs.

    Args:
        store: of the job's folder.
        job_id: of the job; `store.find_job` finds it by a prefix or as "latest".

    Raises:
        UserError: its data files changed, or header values that it needs are gone.
    """
    job = store.get_job(job_id)
    spec = restored_spec(job.spec)
    check_unchanged(spec, job.spec["files"])
    return _with_recorded_limits(spec, job) if isinstance(spec, JobSpec) else spec


async def run_job(
    spec: AnyJobSpec,
    store: JobStore,
    job_id: str,
    *,
    progress: Progress,
    stop: Stop,
    warm_start_only: bool = False,
    ways: Ways | None = None,
) -> None:
    """Run a new or interrupted job to its end.

    Args:
        spec: of the job, from `load_job` or `resume_job`.
        store: where it is stored.
        job_id: from `create_job`.
        progress: is told what happens; `NoProgress()` for nobody.
        stop: ends the job at its next safe point.
        warm_start_only: stop after the warm start's checkpoint, for measuring a baseline on it.
        ways: how whoever reads of a refused baseline goes on; None for those of the command line.

    Raises:
        UserError: the job cannot run as it is; its status is then "failed".
        Interrupted: a stop was requested; its status is then "interrupted" and it can be run again.
        JobPaused: an alarm that pauses rang; its status is then "paused" and it can be run again.
        ArtifactsError: the store of its files does not answer; also then it is "paused".
    """
    with store.job_lock(job_id):
        store.recover(job_id)
        store.rewrite_metrics_file(job_id)
        remove_partial(store.job_folder(job_id))
        store.set_status(job_id, "running")
        metrics_out = MetricsOut(spec.integrations, store, job_id, progress)
        try:
            async with traced(spec, store, job_id, progress):
                await _run(spec, store, job_id, metrics_out, stop, warm_start_only, ways)
        finally:
            await metrics_out.close(store.get_job(job_id).status)


async def _run(
    spec: AnyJobSpec,
    store: JobStore,
    job_id: str,
    progress: Progress,
    stop: Stop,
    warm_start_only: bool,
    ways: Ways | None,
) -> None:
    """As `run_job`, which holds the job: whatever happens, its status says so afterwards."""
    try:
        for integration in spec.integrations:
            check_requirements(integration)
        if isinstance(spec, JobSpec):
            ways = ways or cli_ways(has_warm_start=spec.warm_start is not None)
            await _reinforce(spec, store, job_id, progress, stop, warm_start_only, ways)
        else:
            await _tune(spec, store, job_id, progress, stop)
    except Interrupted:
        store.set_status(job_id, "interrupted")
        raise
    except (JobPaused, ArtifactsError) as pause:
        # How a paused job goes on is said by whoever runs it.
        told = f"{pause.cause} {pause.remedy}" if isinstance(pause, ArtifactsError) else pause.cause
        store.set_status(job_id, "paused", error=pause.cause, events=[("warning", told)])
        raise
    except AgentRFTError as error:
        # How to go on is said by whoever runs the job.
        shown = error.cause if isinstance(error, JobFailedError) else str(error)
        # The long way on is said once, in the error.
        told = error.cause if isinstance(error, NotTrainableError) else shown
        store.set_status(job_id, "failed", error=shown, events=[("error", told)])
        raise
    except BaseException as error:  # whatever it was, the job is no longer "running"
        store.set_status(job_id, "interrupted", error=f"{type(error).__name__}: {error}")
        raise
    if warm_start_only:
        store.set_status(job_id, "interrupted")
    else:
        told = [result_words(store.get_job(job_id)), words_of_test(store, job_id), COMPLETED]
        store.set_status(job_id, "succeeded", events=[("info", text) for text in told if text is not None])


def _with_recorded_limits(spec: JobSpec, job: JobRow) -> JobSpec:
    """The spec of a job that was begun, with what "auto" was then: limits depend on the machine's memory, and all steps
    of a job have the same.
    """
    recorded = job.hyperparameters or {}
    if not recorded:
        return spec
    names = ("max_tokens_per_turn", "max_context_tokens", "eval_interval", "eval_samples", *BEFORE)
    known: dict[str, Any] = {
        name: value for name in names if (value := recorded.get(name, BEFORE.get(name))) is not None
    }
    return spec.model_copy(update={"hyperparameters": spec.hyperparameters.model_copy(update=known)})


async def _tune(spec: TuningSpec, store: JobStore, job_id: str, progress: Progress, stop: Stop) -> None:
    runtime = TuningRuntime(spec)
    try:
        _listen(runtime, store, job_id, progress)
        _begin(runtime.hyperparameters, store, job_id, progress)
        if not step_folder(store.job_folder(job_id), 0).exists():
            await runtime.begin_with(starting_point(spec))
        await tune(runtime, store, job_id, progress, stop)
    finally:
        await runtime.close()


async def _reinforce(
    spec: JobSpec, store: JobStore, job_id: str, progress: Progress, stop: Stop, warm_start_only: bool, ways: Ways
) -> None:
    runtime = Runtime(_with_recorded_limits(spec, store.get_job(job_id)))
    try:
        _listen(runtime, store, job_id, progress)
        await runtime.probe()
        _begin(runtime.hyperparameters, store, job_id, progress)
        has_trained = any(row["phase"] == TRAIN for row in store.metrics(job_id))
        if not has_trained and not step_folder(store.job_folder(job_id), 0).exists():
            await runtime.begin_with(starting_point(spec))
            await warm_start(runtime, store, job_id, progress, stop)
        trainer = Trainer(runtime, store, job_id, progress, stop, ways)
        await trainer.prepare()
        if not warm_start_only:
            await trainer.run()
    finally:
        await runtime.close()


def _listen(runtime: ModelRuntime, store: JobStore, job_id: str, progress: Progress) -> None:
    def report(level: Any, text: str) -> None:
        store.add_event(job_id, level, text)
        progress.message(level, text)

    runtime.notices.listen(report)


def _begin(
    hyperparameters: ResolvedHyperparameters | ResolvedTuning, store: JobStore, job_id: str, progress: Progress
) -> None:
    """Record what the job runs with, and say that it begins."""
    store.record_hyperparameters(job_id, hyperparameters.as_dict())
    store.set_total_steps(job_id, hyperparameters.max_steps)
    progress.started(job_id, hyperparameters.max_steps)
