"""`/v1/evals`, as they are read: those that users made (`eval_runs.py` makes them), and jobs: each job is an eval, each
validation a run, each rollout an output item.

Viewers of rollouts that were written for the hosted service find them here.
"""

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter

from agentrft.server.context import Context, check_limit
from agentrft.server.errors import not_found
from agentrft.server.json_bodies import WireRoute
from agentrft.server.objects.evals import Criterion
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
from agentrft.server.objects.made_evals import groups_of, made_eval, made_item
from agentrft.server.objects.pages import add_ends, page
from agentrft.server.objects.report_page import ITEMS_PER_PAGE, mean_scores, report_url
from agentrft.server.objects.stored_rollouts import data_file
from agentrft.server.records.evals import EvalRow, item_line
from agentrft.server.routes.eval_runs import no_eval, run_row, run_without_rows, whole_run
from agentrft.server.routes.files import InContext
from agentrft.server.routes.parameters import BaseUrl, Limit, Order
from agentrft.server.schemas.answers import answers
from agentrft.server.schemas.evals import Eval, EvalPage, OutputItem, OutputItemPage, Run, RunPage
from agentrft.store import read_rollouts
from agentrft.store.layout import VALIDATION, rollouts_file, rollouts_folder

router = APIRouter(route_class=WireRoute)

# Behind all others: no page begins after an item that is not there.
LAST_LINE = 2**31 - 1
RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]


@router.get("/v1/evals", **answers(EvalPage))
def list_evals(
    context: InContext,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at"] = "created_at",
) -> dict[str, Any]:
    """Those that users made, and one for each job, by the time at which they were created."""
    start = after if after is None or context.records.made_eval(after) is not None else _job_id_of(after)
    ids, has_more = context.records.page_of_evals(
        after=start, limit=check_limit(limit, 100), oldest_first=order == "asc"
    )
    found = [_any_eval(one, context) for one in ids]
    # Others were deleted meanwhile.
    return add_ends({"object": "list", "data": [one for one in found if one is not None], "has_more": has_more})


@router.get("/v1/evals/{eval_id}", **answers(Eval))
def retrieve_eval(eval_id: str, context: InContext) -> dict[str, Any]:
    made = context.records.made_eval(eval_id)
    if made is not None:
        return made_eval(made)
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
    """Runs that were made; of a job validations that are done: no other has rollouts to show yet."""
    if context.records.made_eval(eval_id) is not None:
        rows, has_more = context.records.runs_of(
            eval_id, after=after, limit=check_limit(limit, 100), oldest_first=order == "asc", status=status
        )
        counts = context.records.counts_of([row.run_id for row in rows])
        data = [run_without_rows(row, counts[row.run_id], base_url) for row in rows]
        return add_ends({"object": "list", "data": data, "has_more": has_more})
    found = _runs(_job_id(eval_id, context), context, base_url).values()
    runs = [run for run in found if status in (None, run["status"])]
    return page(runs if order == "asc" else runs[::-1], after=after, limit=check_limit(limit, 100), with_ends=True)


@router.get("/v1/evals/{eval_id}/runs/{run_id}", **answers(Run))
def retrieve_run(eval_id: str, run_id: str, context: InContext, base_url: BaseUrl) -> dict[str, Any]:
    if context.records.made_eval(eval_id) is not None:
        return whole_run(run_row(eval_id, run_id, context), context, base_url)
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
    made = context.records.made_eval(eval_id)
    if made is not None:
        run, groups = _made_run(made, run_id, context, base_url)
        line = None if after is None else item_line(run_id, after) or LAST_LINE
        rows, has_more = context.records.items_of(
            run_id, after=line, limit=check_limit(limit, 100), oldest_first=order == "asc", status=wanted
        )
        data = [made_item(row, run, groups) for row in rows]
        return add_ends({"object": "list", "data": data, "has_more": has_more})
    _, found = _job_run_and_items(eval_id, run_id, context, base_url)
    items = [item for item in found if wanted in (None, item["status"])]
    return page(items if order == "asc" else items[::-1], after=after, limit=check_limit(limit, 100), with_ends=True)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}", **answers(OutputItem))
def retrieve_output_item(
    eval_id: str, run_id: str, output_item_id: str, context: InContext, base_url: BaseUrl
) -> dict[str, Any]:
    made = context.records.made_eval(eval_id)
    if made is not None:
        run, groups = _made_run(made, run_id, context, base_url)
        line = item_line(run_id, output_item_id)
        row = None if line is None else context.records.item(run_id, line)
        if row is None:
            raise not_found(f"There is no output item '{output_item_id}'.", code="not_found")
        return made_item(row, run, groups)
    for item in _job_run_and_items(eval_id, run_id, context, base_url)[1]:
        if item["id"] == output_item_id:
            return item
    raise not_found(f"There is no output item '{output_item_id}'.", code="not_found")


def report_of(
    eval_id: str, run_id: str, context: Context, base_url: str, *, page_number: int
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, float]]:
    """What the page of a run shows: the run, one page of its output items by row, and each grader's mean score.

    Raises:
        ApiError: there is no such run.
    """
    first = (page_number - 1) * ITEMS_PER_PAGE
    made = context.records.made_eval(eval_id)
    if made is None:
        run, items = _job_run_and_items(eval_id, run_id, context, base_url)
        return run, items[first : first + ITEMS_PER_PAGE], mean_scores(items)
    run, groups = _made_run(made, run_id, context, base_url)
    rows, _ = context.records.items_of(run_id, skip=first, limit=ITEMS_PER_PAGE, oldest_first=True)
    return run, [made_item(row, run, groups) for row in rows], run["agentrft"]["mean_scores"] or {}


def _job_id_of(an_eval_id: str) -> str:
    return f"ftjob-{an_eval_id.removeprefix('eval_')}"


def _job_id(an_eval_id: str, context: Context) -> str:
    job_id = _job_id_of(an_eval_id)
    if context.records.served(job_id) is None or not context.job(job_id)[0].has_rollouts:
        raise no_eval(an_eval_id)
    return job_id


def _any_eval(one: str, context: Context) -> dict[str, Any] | None:
    """Of a job's id, or of an eval's; None where it is gone."""
    made = context.records.made_eval(one)
    if made is not None:
        return made_eval(made)
    return None if context.records.served(one) is None else _eval(one, context)


def _made_run(
    made: EvalRow, run_id: str, context: Context, base_url: str
) -> tuple[dict[str, Any], list[list[Criterion]]]:
    row = run_row(made.eval_id, run_id, context)
    return run_without_rows(row, context.records.counts_of([run_id])[run_id], base_url), groups_of(made)


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


def _job_run_and_items(
    an_eval_id: str, run_id: str, context: Context, base_url: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A validation as a run, and all its output items, in the order of their rows."""
    run = _run(an_eval_id, run_id, context, base_url)
    job, _ = context.job(_job_id(an_eval_id, context))
    step = int(run["metadata"]["step"])
    path = _rollouts_path(job.job_id, step, context)
    threshold = next(
        row["pass_threshold"]
        for row in context.store.metrics(job.job_id)
        if row["phase"] == VALIDATION and row["step"] == step
    )
    samples = samples_of(data_file(job, VALIDATION, context))
    is_here = context.store.artifacts.fetch(path)
    criteria = with_threshold(job_criteria(job), threshold)
    records = [row["record"] for row in (read_rollouts(path) if is_here else [])]
    records.sort(key=lambda record: (record["sample_id"], record["index"]))
    return run, [job_item(record, run, criteria, samples.get(record["sample_id"])) for record in records]


def _rollouts_path(job_id: str, step: int, context: Context) -> Path:
    return rollouts_file(context.store.job_folder(job_id), VALIDATION, step)
