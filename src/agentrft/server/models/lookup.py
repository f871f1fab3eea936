"""From a model's public name to the weights that answer for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.server.context import Context
from agentrft.server.errors import ApiError, not_found
from agentrft.server.models.catalog import fine_tuned_name, split_step
from agentrft.server.objects.jobs import shown_status
from agentrft.server.records.job_lists import TunedJob
from agentrft.store.layout import ADAPTER, MODEL, step_folder
from agentrft.store.states import ENDED


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
    job: TunedJob | None = None
    step: int | None = None
    created_at: int = 0


def find_model(name: str, context: Context) -> ServedModel:
    """Raises ApiError, with the models that are here, where there is none of that name."""
    found = _find(name, context)
    if found is not None:
        return found
    known = ", ".join(model.name for model in list_models(context))
    raise ApiError(
        404, f"The model '{name}' does not exist here. These do: {known}.", param="model", code="model_not_found"
    )


def has_model(name: str, context: Context) -> bool:
    """Whether there is a model of that name, which can be asked."""
    return "\0" not in name and _find(name, context) is not None


def find_start(name: str, context: Context) -> ServedModel:
    """A fine-tuned model, to be trained further.

    Raises:
        ApiError: there is none of that name, or its job may still change it.
    """
    model = find_model(name, context)
    if model.job is not None and model.job.status not in ENDED:
        status = shown_status(model.job.status)
        raise ApiError(
            400,
            f"'{name}': its job is {status}; once that has ended, it can be trained further.",
            param="model",
            code="model_in_use",
        )
    fetch_weights(model, context, whole=True)
    return model


def fetch_weights(model: ServedModel, context: Context, *, whole: bool = False) -> Path | None:
    """The checkpoint's folder with its weights in it; None for a base model.

    Args:
        whole: also with the learner's state.

    Raises:
        ApiError: they were deleted.
    """
    if model.folder is not None and not context.store.artifacts.fetch(
        model.folder, only=() if whole else (ADAPTER, MODEL)
    ):
        raise not_found(f"'{model.name}': its weights are gone.", param="model", code="model_not_found")
    return model.folder


def template_variables(model: ServedModel, context: Context) -> dict[str, Any]:
    """The `chat_template_kwargs` that a model was trained with; none of a base model."""
    if model.job is None:
        return {}
    return context.store.get_job(model.job.job_id).setting("chat_template_kwargs") or {}


def list_models(context: Context) -> list[ServedModel]:
    """Base models, then fine-tuned ones, newest first, each with its checkpoints."""
    found = [ServedModel(name, weights) for name, weights in sorted(context.catalog.weights.items())]
    for job in context.records.lists.tuned():
        name = _name(job, context)
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
    if model.job.status not in ENDED:
        raise ApiError(
            409, f"'{name}': its job is {shown_status(model.job.status)}.", param="model", code="model_in_use"
        )
    further = context.records.lists.job_beginning_with(model.job.job_id)
    if further is not None:
        message = f"'{name}': {further}, which has not ended, begins with it."
        raise ApiError(409, message, param="model", code="model_in_use")
    context.store.delete_checkpoints(model.job.job_id, None if split_step(name)[1] is None else model.step)


def _find(name: str, context: Context) -> ServedModel | None:
    if name in context.catalog:
        return ServedModel(name, context.catalog.weights[name])
    bare, step = split_step(name)
    job = context.records.lists.tuned_by(f"ftjob-{bare.rpartition(':')[2]}")
    if job is None or _name(job, context) != bare:
        return None
    return _at_step(name, job, step, context)


def _name(job: TunedJob, context: Context) -> str:
    return fine_tuned_name(job.base, context.settings.organization, job.suffix, job.job_id)


def _steps(job: TunedJob, context: Context) -> list[int]:
    """Checkpoints that are whole, newest first."""
    return sorted((step for step in context.store.checkpoints(job.job_id) if step <= job.step), reverse=True)


def _at_step(name: str, job: TunedJob, step: int | None, context: Context) -> ServedModel | None:
    steps = _steps(job, context)
    if step is None:
        if job.status != "succeeded":
            return None
        step = job.best_step if job.best_step in steps else max(steps, default=None)
    if step is None or step not in steps:
        return None
    folder = step_folder(context.store.job_folder(job.job_id), step)
    return ServedModel(name, job.weights, folder, job, step, int(job.finished_at or job.created_at))
