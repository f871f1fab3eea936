"""`/v1/evals`, read-only: each job is an eval, each validation a run, each rollout an output item.

Viewers of rollouts that were written for the hosted service find them here.
"""

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter

from agentrft.server.context import Context, check_limit
from agentrft.server.creation.request import content_path
from agentrft.server.errors import not_found
from agentrft.server.json_bodies import WireRoute
from agentrft.server.objects.job_evals import (
    job_criteria,
    job_eval,
    job_item,
    job_run,
    samples_of,
    with_threshold,
)
from agentrft.server.objects.jobs import eval_id as eval_id_of
from agentrft.server.objects.jobs import model_name
from agentrft.server.objects.pages import add_ends, page
from agentrft.server.objects.report_page import report_url
from agentrft.server.routes.files import InContext
from agentrft.server.routes.parameters import BaseUrl, Limit, Order
from agentrft.server.schemas.answers import answers
from agentrft.server.schemas.evals import Eval, EvalPage, OutputItem, OutputItemPage, Run, RunPage
from agentrft.store import JobRow, read_rollouts
from agentrft.store.layout import VALIDATION, rollouts_file, rollouts_folder

router = APIRouter(route_class=WireRoute)

RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]


@router.get("/v1/evals", **answers(EvalPage))
def list_evals(
    context: InContext,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at"] = "created_at",
) -> dict[str, Any]:
    """One for each job, by the time at which it was created."""
    ids, has_more = context.records.lists.page(
        after=None if after is None else _job_id_of(after), limit=check_limit(limit, 100), oldest_first=order == "asc"
    )
    return add_ends({"object": "list", "data": [_eval(job_id, context) for job_id in ids], "has_more": has_more})


@router.get("/v1/evals/{eval_id}", **answers(Eval))
def retrieve_eval(eval_id: str, context: InContext) -> dict[str, Any]:
    return _eval(_job_id(eval_id, context), context)


@router.get("/v1/evals/{eval_id}/runs", **answers(RunPage))
def list_runs(
    eval_id: str,
    context: InContext,
    base_url: BaseUrl,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> dict[str, Any]:
    """Validations that are done; no other has rollouts to show yet."""
    found = _runs(_job_id(eval_id, context), context, base_url).values()
    runs = [run for run in found if status in (None, run["status"])]
    return page(runs if order == "asc" else runs[::-1], after=after, limit=check_limit(limit, 100), with_ends=True)


@router.get("/v1/evals/{eval_id}/runs/{run_id}", **answers(Run))
def retrieve_run(eval_id: str, run_id: str, context: InContext, base_url: BaseUrl) -> dict[str, Any]:
    return _run(eval_id, run_id, context, base_url)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items", **answers(OutputItemPage))
def list_output_items(
    eval_id: str,
    run_id: str,
    context: InContext,
    base_url: BaseUrl,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Literal["pass", "fail", "failed", "error"] | None = None,
) -> dict[str, Any]:
    """`failed` is `fail`; an `error` is a rollout without a reward."""
    wanted = "fail" if status == "failed" else status
    _, found = run_and_items(eval_id, run_id, context, base_url)
    items = [item for item in found if wanted in (None, item["status"])]
    return page(items if order == "asc" else items[::-1], after=after, limit=check_limit(limit, 100), with_ends=True)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}", **answers(OutputItem))
def retrieve_output_item(
    eval_id: str, run_id: str, output_item_id: str, context: InContext, base_url: BaseUrl
) -> dict[str, Any]:
    for item in run_and_items(eval_id, run_id, context, base_url)[1]:
        if item["id"] == output_item_id:
            return item
    raise not_found(f"There is no output item '{output_item_id}'.", code="not_found")


def _job_id_of(an_eval_id: str) -> str:
    return f"ftjob-{an_eval_id.removeprefix('eval_')}"


def _job_id(an_eval_id: str, context: Context) -> str:
    job_id = _job_id_of(an_eval_id)
    if context.records.served(job_id) is None:
        raise not_found(f"There is no eval '{an_eval_id}'.", code="not_found")
    return job_id


def _eval(job_id: str, context: Context) -> dict[str, Any]:
    job, served = context.job(job_id)
    return job_eval(job, served.request["metadata"])


def _runs(job_id: str, context: Context, base_url: str) -> dict[str, dict[str, Any]]:
    job, served = context.job(job_id)
    model = model_name(job, served, context.settings.organization)
    criteria = job_criteria(job)
    written_at = context.store.artifacts.entries(rollouts_folder(context.store.job_folder(job_id)))
    found = {}
    for row in context.store.metrics(job_id):
        if row["phase"] == VALIDATION:
            run_id = f"evalrun_{job_id.removeprefix('ftjob-')}_{row['step']}"
            name = _rollouts_path(job_id, row["step"], context).name
            created_at = int(written_at.get(name, job.created_at))
            found[run_id] = job_run(
                run_id,
                job,
                row,
                with_threshold(criteria, row["pass_threshold"]),
                model=model,
                created_at=created_at,
                rows_file=served.request["validation_file"],
                report_url=report_url(base_url, eval_id_of(job_id), run_id),
            )
    return found


def _run(an_eval_id: str, run_id: str, context: Context, base_url: str) -> dict[str, Any]:
    run = _runs(_job_id(an_eval_id, context), context, base_url).get(run_id)
    if run is None:
        raise not_found(f"There is no run '{run_id}'.", code="not_found")
    return run


def run_and_items(
    an_eval_id: str, run_id: str, context: Context, base_url: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run and all its output items, in the order of their rows.

    Raises:
        ApiError: there is no such run.
    """
    run = _run(an_eval_id, run_id, context, base_url)
    job, _ = context.job(_job_id(an_eval_id, context))
    step = int(run["metadata"]["step"])
    path = _rollouts_path(job.job_id, step, context)
    threshold = next(
        row["pass_threshold"]
        for row in context.store.metrics(job.job_id)
        if row["phase"] == VALIDATION and row["step"] == step
    )
    samples = samples_of(_validation_file(job, context))
    is_here = context.store.artifacts.fetch(path)
    criteria = with_threshold(job_criteria(job), threshold)
    records = [row["record"] for row in (read_rollouts(path) if is_here else [])]
    records.sort(key=lambda record: (record["sample_id"], record["index"]))
    return run, [job_item(record, run, criteria, samples.get(record["sample_id"])) for record in records]


def _validation_file(job: JobRow, context: Context) -> Path | None:
    stored = job.setting("validation_file")
    if stored is None:
        return None
    path = content_path(context.settings, Path(stored).name)
    return path if context.store.artifacts.fetch(path) else None


def _rollouts_path(job_id: str, step: int, context: Context) -> Path:
    return rollouts_file(context.store.job_folder(job_id), VALIDATION, step)
