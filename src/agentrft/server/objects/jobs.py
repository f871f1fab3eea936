"""Jobs, their events and their checkpoints as the API's objects."""

import hashlib
from collections.abc import Sequence
from typing import Any

from agentrft.server.creation.validation import stored_problem
from agentrft.server.models.catalog import fine_tuned_name
from agentrft.server.objects.metrics import checkpoint_metrics, told_steps
from agentrft.server.objects.tuning_metrics import tuning_metrics
from agentrft.server.records.rows import ServedJob
from agentrft.store import Event, JobRow, JobStatus, JobStore
from agentrft.store.rows import as_mapping

# The hosted service knows no interruption: such a job goes on by itself.
STATUSES = {"created": "validating_files", "interrupted": "queued"}
LEVELS = {"info": "info", "warning": "warn", "error": "error"}
AUTO = "auto"


def status_of(job: JobRow) -> str:
    return shown_status(job.status)


def shown_status(status: str) -> str:
    return STATUSES.get(status, status)


def resumable_from(job: JobRow) -> tuple[JobStatus, ...]:
    """The statuses in which the job can be queued again. What was wrong with its files stays wrong: those of a job that
    never began were never recorded."""
    return ("paused", "failed") if job.spec.get("files") else ("paused",)


def job_object(
    job: JobRow, served: ServedJob, *, organization: str, result_files: Sequence[str] = (), trained_tokens: int = 0
) -> dict[str, Any]:
    """A `fine_tuning.job`."""
    request = served.request
    is_done = job.status == "succeeded"
    chosen = job.hyperparameters if isinstance(job.hyperparameters, dict) else {}
    return {
        "id": job.job_id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "estimated_finish": int(served.estimated_finish)
        if job.status == "running" and served.estimated_finish
        else None,
        "model": request["model"],
        "fine_tuned_model": model_name(job, served, organization) if is_done else None,
        "organization_id": organization,
        "status": status_of(job),
        "training_file": request["training_file"],
        "validation_file": request["validation_file"],
        "result_files": list(result_files),
        "trained_tokens": trained_tokens if is_done else None,
        "seed": job.seed,
        "integrations": request["integrations"],
        "metadata": request["metadata"],
        "method": request["method"],
        "hyperparameters": {
            "n_epochs": chosen.get("n_epochs", AUTO),
            "batch_size": chosen.get("batch_size", AUTO),
            "learning_rate_multiplier": chosen.get("learning_rate_multiplier", AUTO),
        },
        "error": _error(job),
        "eval_id": eval_id(job.job_id) if job.has_rollouts else None,
        "user_provided_suffix": request["suffix"],
    }


def model_name(job: JobRow, served: ServedJob, organization: str) -> str:
    """Of the job's best step."""
    return fine_tuned_name(served.request["model"], organization, served.request["suffix"], job.job_id)


def eval_id(job_id: str) -> str:
    return f"eval_{job_id.removeprefix('ftjob-')}"


def event_object(event: Event) -> dict[str, Any]:
    """A `fine_tuning.job.event`; one with metrics has them as `data`."""
    is_metrics = "step" in event.data and "total_steps" in event.data
    return {
        "id": event_id(event),
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": LEVELS[event.level],
        "message": event.message,
        "type": "metrics" if is_metrics else "message",
        "data": event.data,
    }


def event_id(event: Event) -> str:
    return f"ftevent-{event.number:024d}"


def event_number(an_event_id: str) -> int:
    """The number in an event's id; 0, before all events, where it is none."""
    digits = an_event_id.removeprefix("ftevent-")
    return int(digits) if digits.isdecimal() and len(digits) <= 24 and int(digits) < 2**62 else 0


def steps_of(job: JobRow, metrics: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`told_steps` of a job, as far as it is."""
    return told_steps(
        metrics,
        validates=job.setting("validation_file") is not None,
        eval_interval=_eval_interval(job),
        last=job.total_steps or 0,
    )


def checkpoints(job: JobRow, served: ServedJob, store: JobStore, organization: str) -> list[dict[str, Any]]:
    """A `fine_tuning.job.checkpoint` for each validated step that is kept, and each end of an epoch of a job without
    rollouts; newest first."""
    kept = store.checkpoints(job.job_id)
    epoch = as_mapping(job.hyperparameters).get("steps_per_epoch")
    found = []
    for one in steps_of(job, store.metrics(job.job_id)):
        step = one["step"]
        is_end = step == job.total_steps or (isinstance(epoch, int) and epoch > 0 and step % epoch == 0)
        if step > 0 and step in kept and (one["validation"] is not None or is_end):
            found.append(
                {
                    "id": f"ftckpt_{hashlib.sha256(f'{job.job_id}/{step}'.encode()).hexdigest()[:24]}",
                    "object": "fine_tuning.job.checkpoint",
                    "created_at": int(kept[step]),
                    "fine_tuned_model_checkpoint": f"{model_name(job, served, organization)}:ckpt-step-{step}",
                    "fine_tuning_job_id": job.job_id,
                    "step_number": step,
                    "metrics": checkpoint_metrics(one) if job.has_rollouts else tuning_metrics(one),
                }
            )
    return found[::-1]


def _error(job: JobRow) -> dict[str, Any] | None:
    """The SDK wants an object of a job that failed, and takes one of nulls of others."""
    if job.status != "failed" or not job.error:
        return None
    problem = stored_problem(job.error)
    return {"code": problem.code, "message": problem.message, "param": problem.param}


def _eval_interval(job: JobRow) -> int:
    chosen = job.hyperparameters if isinstance(job.hyperparameters, dict) else {}
    interval = chosen.get("eval_interval")
    return interval if isinstance(interval, int) and interval > 0 else 1
