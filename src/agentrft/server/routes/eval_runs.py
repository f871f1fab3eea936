"""`/v1/evals`: making evals and runs of them, and ending and deleting them."""

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from agentrft.server.context import Context
from agentrft.server.creation.request import check_metadata
from agentrft.server.errors import ApiError, not_found
from agentrft.server.evals.creation import read_eval, read_run
from agentrft.server.evals.fields import EvalUpdate, read
from agentrft.server.json_bodies import WireRoute
from agentrft.server.objects.made_evals import made_eval, made_run
from agentrft.server.objects.report_page import report_url
from agentrft.server.offload.admission import unless_gone
from agentrft.server.records import new_id
from agentrft.server.records.evals import EvalRow, RunRow
from agentrft.server.routes.files import InContext
from agentrft.server.routes.graders import of_grader
from agentrft.server.routes.parameters import BaseUrl
from agentrft.server.schemas.answers import answers
from agentrft.server.schemas.evals import DeletedEval, DeletedRun, Eval, Run

router = APIRouter(route_class=WireRoute)

OF_A_JOB = "belongs to a job: it has what that leaves, and cannot be changed. Make one with POST /v1/evals."


@router.post("/v1/evals", **answers(Eval))
async def create_eval(request: Request, context: InContext, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """Make an eval: graders, and the schema of the rows that its runs have."""
    new = await asyncio.to_thread(read_eval, body, context)
    for place, grader in enumerate(new.graders):
        with of_grader(f"testing_criteria.{place}"):
            await unless_gone(request, context.grading.check(grader.model_dump(mode="json")))
    sealed = context.sealer.seal(new.sealed)
    row = await context.quickly(
        context.records.add_eval, new_id("eval_", 32), new.name, new.shown, sealed, new.metadata
    )
    return made_eval(row)


@router.post("/v1/evals/{eval_id}", **answers(Eval))
def update_eval(eval_id: str, context: InContext, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """Change its name or metadata."""
    made_row(eval_id, context)
    given = read(EvalUpdate, body)
    changes: dict[str, Any] = {} if given.name is None else {"name": given.name}
    if given.metadata is not None:
        changes["user_metadata"] = check_metadata(given.metadata)
    context.records.change_eval(eval_id, changes)
    return made_eval(made_row(eval_id, context))


@router.delete("/v1/evals/{eval_id}", **answers(DeletedEval))
def delete_eval(eval_id: str, context: InContext) -> dict[str, Any]:
    """With its runs and their output items; what of it still runs is ended."""
    made_row(eval_id, context)
    if not context.records.delete_eval(eval_id):
        raise no_eval(eval_id)
    return {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}


@router.post("/v1/evals/{eval_id}/runs", **answers(Run))
def create_run(
    eval_id: str, context: InContext, base_url: BaseUrl, body: Annotated[dict[str, Any], Body()]
) -> dict[str, Any]:
    """Queue a run: rows to be graded as they are, or to be answered by a model of this server first."""
    made_row(eval_id, context)
    sealed_eval = json.loads(context.sealer.open(context.records.sealed_eval(eval_id)))
    new = read_run(body, sealed_eval, context)
    row = context.records.add_run(
        eval_id,
        new.name,
        new.model,
        new.shown,
        context.sealer.seal(new.sealed),
        new.metadata,
        content=new.content,
        file_id=new.file_id,
    )
    if row is None:
        raise no_eval(eval_id)
    context.wake_evals.set()
    return whole_run(row, context, base_url)


@router.post("/v1/evals/{eval_id}/runs/{run_id}/cancel", **answers(Run))
def cancel_run(eval_id: str, run_id: str, context: InContext, base_url: BaseUrl) -> dict[str, Any]:
    """End a run; what it has graded stays. Its worker ends within seconds."""
    row = run_row(eval_id, run_id, context)
    if row.status != "canceled" and not context.records.end_run(run_id, "canceled"):
        status = run_row(eval_id, run_id, context).status
        raise ApiError(400, f"{run_id} is '{status}': it has ended.", code="invalid_run_state")
    context.wake_evals.set()
    return whole_run(run_row(eval_id, run_id, context), context, base_url)


@router.post("/v1/evals/{eval_id}/runs/{run_id}", **answers(Run))
def cancel_run_as_before(eval_id: str, run_id: str, context: InContext, base_url: BaseUrl) -> dict[str, Any]:
    """As `/cancel`, where older SDKs send it."""
    return cancel_run(eval_id, run_id, context, base_url)


@router.delete("/v1/evals/{eval_id}/runs/{run_id}", **answers(DeletedRun))
def delete_run(eval_id: str, run_id: str, context: InContext) -> dict[str, Any]:
    """With its output items; one that goes on is ended."""
    run_row(eval_id, run_id, context)
    context.records.delete_run(run_id)
    return {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}


def made_row(eval_id: str, context: Context) -> EvalRow:
    """An eval that a user made; raises ApiError where there is none, or it is a job's."""
    row = context.records.made_eval(eval_id)
    if row is None:
        if context.records.served(f"ftjob-{eval_id.removeprefix('eval_')}") is not None:
            raise ApiError(400, f"{eval_id} {OF_A_JOB}", param="eval_id", code="invalid_value")
        raise no_eval(eval_id)
    return row


def no_eval(eval_id: str) -> ApiError:
    return not_found(f"There is no eval '{eval_id}'.", param="eval_id", code="not_found")


def run_row(eval_id: str, run_id: str, context: Context) -> RunRow:
    made_row(eval_id, context)
    row = context.records.run(run_id)
    if row is None or row.eval_id != eval_id:
        raise not_found(f"There is no run '{run_id}'.", param="run_id", code="not_found")
    return row


def whole_run(row: RunRow, context: Context, base_url: str) -> dict[str, Any]:
    """With the rows that came with it."""
    counts = context.records.counts_of([row.run_id])[row.run_id]
    content = context.records.run_content(row.run_id)
    return made_run(row, counts, report_url=report_url(base_url, row.eval_id, row.run_id), content=content)


def run_without_rows(row: RunRow, counts: dict[str, int], base_url: str) -> dict[str, Any]:
    """As lists have it."""
    return made_run(row, counts, report_url=report_url(base_url, row.eval_id, row.run_id))
