"""From a model's public name to the weights that answer for it."""

from dataclasses import dataclass
from pathlib import Path

from agentrft.job.checkpoint import ADAPTER, MODEL
from agentrft.server.context import Context
from agentrft.server.errors import ApiError, not_found
from agentrft.server.names import split_step
from agentrft.server.objects import model_name
from agentrft.server.rows import ServedJob
from agentrft.store import JobRow


@dataclass(frozen=True)
class ServedModel:
    """A model that can be asked.

    Attributes:
        base: as a job's `model:` takes it.
        folder: the checkpoint's, where it is or can be fetched to; None for a base model.
        job: that made it.
    """

    name: str
    base: str
    folder: Path | None = None
    job: JobRow | None = None
    step: int | None = None
    created_at: int = 0


def find_model(name: str, context: Context) -> ServedModel:
    """Raises ApiError, with the models that are here, where there is none of that name."""
    if name in context.catalog:
        return ServedModel(name, context.catalog.weights[name])
    bare, step = split_step(name)
    for job, served in _fine_tuned(context):
        if model_name(job, served, context.settings.organization) == bare:
            found = _at_step(name, job, step, context)
            if found is not None:
                return found
    known = ", ".join(model.name for model in list_models(context))
    raise ApiError(404, f"The model '{name}' does not exist here. These do: {known}.", param="model",
                   code="model_not_found")  # fmt: skip


def fetch_weights(model: ServedModel, context: Context) -> Path | None:
    """The checkpoint's folder with its weights in it; None for a base model.

    Raises:
        ApiError: they were deleted.
    """
    if model.folder is not None and not context.store.artifacts.fetch(model.folder, only=(ADAPTER, MODEL)):
        raise not_found(f"'{model.name}': its weights are gone.", param="model", code="model_not_found")
    return model.folder


def list_models(context: Context) -> list[ServedModel]:
    """Base models, then fine-tuned ones, newest first, each with its checkpoints."""
    found = [ServedModel(name, weights) for name, weights in sorted(context.catalog.weights.items())]
    for job, served in _fine_tuned(context):
        name = model_name(job, served, context.settings.organization)
        if job.status == "succeeded":
            best = _at_step(name, job, None, context)
            found += [] if best is None else [best]
        for step in _steps(job, context):
            if step > 0:
                one = _at_step(f"{name}:ckpt-step-{step}", job, step, context)
                found += [] if one is None else [one]
    return found


def delete_model(name: str, context: Context) -> None:
    """A fine-tuned model's checkpoints are deleted; its job and metrics stay.

    Raises:
        ApiError: there is none, it is a base model, or its job still runs.
    """
    model = find_model(name, context)
    if model.job is None:
        raise ApiError(400, f"'{name}' is a base model.", param="model", code="invalid_value")
    if model.job.status not in ("succeeded", "failed", "cancelled"):
        raise ApiError(409, f"'{name}': its job is {model.job.status}.", param="model", code="model_in_use")
    context.store.delete_checkpoints(model.job.job_id, None if split_step(name)[1] is None else model.step)


def _fine_tuned(context: Context) -> list[tuple[JobRow, ServedJob]]:
    served = context.records.all_served()
    return [(job, served[job.job_id]) for job in context.store.list_jobs() if job.job_id in served]


def _steps(job: JobRow, context: Context) -> list[int]:
    """Checkpoints that are whole, newest first."""
    return sorted((step for step in context.store.checkpoints(job.job_id) if step <= job.step), reverse=True)


def _at_step(name: str, job: JobRow, step: int | None, context: Context) -> ServedModel | None:
    steps = _steps(job, context)
    if step is None:
        if job.status != "succeeded":
            return None
        step = job.best_step if job.best_step in steps else max(steps, default=None)
    if step is None or step not in steps:
        return None
    folder = context.store.job_folder(job.job_id) / "checkpoints" / f"step-{step:05d}"
    return ServedModel(name, job.model, folder, job, step, int(job.finished_at or job.created_at))
