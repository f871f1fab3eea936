"""`/v1/fine_tuning/jobs`: create, watch, stop, and go on."""

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Header, Request
from fastapi.responses import Response
from sse_starlette import EventSourceResponse

from agentrft import wire
from agentrft.errors import UserError
from agentrft.job.secrets import stored_spec
from agentrft.server.background.validation import validate_job
from agentrft.server.background.webhooks import tell_webhook
from agentrft.server.context import Context, check_limit, quick
from agentrft.server.creation.request import NewJob, read_request, request_digest
from agentrft.server.errors import ApiError
from agentrft.server.ignored_fields import ignored_header
from agentrft.server.json_bodies import WireRoute
from agentrft.server.models.catalog import FINE_TUNED
from agentrft.server.models.lookup import find_start, has_model, template_variables
from agentrft.server.objects.jobs import checkpoints, event_number, event_object, resumable_from, status_of
from agentrft.server.objects.pages import page
from agentrft.server.routes.files import InContext
from agentrft.server.routes.parameters import Limit
from agentrft.server.schemas.answers import answers
from agentrft.server.schemas.jobs import CheckpointPage, EventPage, Job, JobPage, ValidatedJob
from agentrft.spec.yaml_files import parse_yaml
from agentrft.store import JobRow
from agentrft.store.states import ENDED

logger = logging.getLogger(__name__)
router = APIRouter(route_class=WireRoute)

STREAM_LOOK_S = 0.5
LONGEST_IDEMPOTENCY_KEY = 255
LONGEST_TEXT = 1024 * 1024
METADATA_PREFIX = "metadata["
RESUMED = "The job was resumed"


@router.post("/v1/fine_tuning/jobs", **answers(Job))
def create_job(
    context: InContext,
    background: BackgroundTasks,
    response: Response,
    body: Annotated[dict[str, Any], Body()],
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    x_stainless_retry_count: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """Create a job. The same `Idempotency-Key`, or a retry of the SDK's own, makes one job."""
    if idempotency_key is not None and len(idempotency_key) > LONGEST_IDEMPOTENCY_KEY:
        message = f"Idempotency-Key: at most {LONGEST_IDEMPOTENCY_KEY} characters."
        raise ApiError(400, message, param="Idempotency-Key", code="invalid_value")
    digest = request_digest(body)
    is_retry = (x_stainless_retry_count or "0") not in ("0", "")
    known = context.records.job_of_request(digest, idempotency_key=idempotency_key, is_retry=is_retry)
    if known is not None:
        job_id, is_same = known
        if not is_same:
            message = "This Idempotency-Key was used with another request."
            raise ApiError(400, message, code="idempotency_key_in_use")
        return context.job_object(job_id)
    new = _checked(body, context)
    record = {**stored_spec(new.spec, None), "files": {}}
    job_id = context.records.create_job(
        record,
        new.request,
        context.sealer.seal(new.spec.model_dump_json()),
        seed=new.spec.seed,
        model=new.spec.model,
        digest=digest,
        idempotency_key=idempotency_key,
        warnings=_warnings(new),
    )
    response.headers.update(ignored_header(new.ignored))
    background.add_task(validate_job, context, job_id)
    return context.job_object(job_id)


@router.post("/v1/fine_tuning/alpha/jobs/validate", **answers(ValidatedJob))
def validate_request(context: InContext, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """What `create` would say to a request, given as `job`: an object, or the same as text in YAML or JSON. Its files
    and graders are looked at once it is created.
    """
    job = body.get("job")
    if isinstance(job, str):
        if len(job) > LONGEST_TEXT:
            raise ApiError(400, "job: at most 1 MB of text is taken.", param="job", code="invalid_value")
        try:
            job = parse_yaml(job, "job")
        except UserError as error:
            raise ApiError(400, f"{error.cause} {error.remedy}", param="job", code="invalid_value") from error
    if not isinstance(job, dict):
        raise ApiError(400, "job: an object, or one as YAML, is needed.", param="job", code="invalid_value")
    new = _checked(job, context)
    return {"job": job, "type": new.spec.method, "warnings": _warnings(new)}


@router.get("/v1/fine_tuning/jobs", **answers(JobPage))
@quick
def list_jobs(request: Request, context: InContext, after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
    """Newest first; `metadata[key]=value` and `metadata=null` choose."""
    wanted = {
        name[len(METADATA_PREFIX) : -1]: value
        for name, value in request.query_params.items()
        if name.startswith(METADATA_PREFIX) and name.endswith("]")
    }
    without = request.query_params.get("metadata") == "null"
    if without and wanted:
        raise ApiError(400, "metadata: `null` and keys exclude each other.", param="metadata", code="invalid_value")
    ids, has_more = context.records.lists.page(
        after=after, limit=check_limit(limit, 100), metadata="none" if without else wanted or "any"
    )
    return {"object": "list", "data": [context.job_object(job_id) for job_id in ids], "has_more": has_more}


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}", **answers(Job))
@quick
def retrieve_job(fine_tuning_job_id: str, context: InContext) -> Response:
    return _polled(wire.dump_always(context.job_object(fine_tuning_job_id)))


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel", **answers(Job))
def cancel_job(fine_tuning_job_id: str, context: InContext) -> dict[str, Any]:
    return _wish(fine_tuning_job_id, context, "cancel")


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/pause", **answers(Job))
def pause_job(fine_tuning_job_id: str, context: InContext) -> dict[str, Any]:
    return _wish(fine_tuning_job_id, context, "pause")


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/resume", **answers(Job))
def resume_job(fine_tuning_job_id: str, context: InContext) -> dict[str, Any]:
    job, served = context.job(fine_tuning_job_id)
    if served.wish == "pause":
        context.records.wish(job.job_id, None)
        context.store.add_event(job.job_id, "info", RESUMED)
    elif not _go_on(context, job):
        raise _conflict(
            job.job_id, status_of(job), "only a paused job, or one that failed after it began, can be resumed"
        )
    context.wake.set()
    return context.job_object(job.job_id)


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/events", **answers(EventPage, streams=True))
@quick
def list_events(
    fine_tuning_job_id: str,
    context: InContext,
    after: str | None = None,
    limit: Limit = 20,
    stream: bool = False,
) -> Response:
    """Newest first; with `stream=true` as server-sent events, oldest first, until the job has ended."""
    job_id = context.served(fine_tuning_job_id).job_id
    if stream:
        return EventSourceResponse(_stream(context, job_id))
    limit = check_limit(limit, 100)
    # Clients poll this: no more is read than one page.
    before = None if after is None else event_number(after)
    numbers = context.store.newest_events(job_id, limit=limit + 1, before=before)
    data = ", ".join(context.event_cache.of(numbers[:limit]))
    has_more = "true" if len(numbers) > limit else "false"
    return _polled(f'{{"object": "list", "data": [{data}], "has_more": {has_more}}}')


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints", **answers(CheckpointPage))
@quick
def list_checkpoints(
    fine_tuning_job_id: str, context: InContext, after: str | None = None, limit: Limit = 10
) -> dict[str, Any]:
    job, served = context.job(fine_tuning_job_id)
    items = checkpoints(job, served, context.store, context.settings.organization)
    return page(items, after=after, limit=check_limit(limit, 100), with_ends=True)


def _checked(body: dict[str, Any], context: Context) -> NewJob:
    model = body.get("model")
    start = find_start(model, context) if isinstance(model, str) and model.startswith(FINE_TUNED) else None
    return read_request(
        body,
        context.records,
        context.catalog,
        context.settings,
        start,
        inherited={} if start is None else template_variables(start, context),
        is_here=partial(has_model, context=context),
        secrets_of=context.secrets_of,
    )


def _warnings(new: NewJob) -> list[str]:
    return [f"{name}: has no meaning here, and changes nothing" for name in new.ignored]


def _polled(text: str) -> Response:
    """An answer that many clients ask for again and again: it is JSON already, and nobody needs to look through it."""
    return Response(text, media_type="application/json")


def _wish(job_id: str, context: Context, wish: str) -> dict[str, Any]:
    """Ask for it, and for jobs that nobody runs do it at once."""
    job, served = context.job(job_id)
    if job.status in ENDED:
        raise _conflict(job_id, status_of(job), "it has ended")
    if wish == "pause" and job.status == "paused":
        return context.job_object(job_id)
    if wish == "pause" and job.status == "created":
        raise _conflict(job_id, status_of(job), "its files are being looked at; try again in a moment")
    new = "cancelled" if wish == "cancel" else "paused"
    old = ("created", "queued", "paused") if wish == "cancel" else ("queued",)
    if context.records.move(job_id, old, new, event=("info", f"The job was {new}")):
        if new == "cancelled":
            tell_webhook(context, job_id)
    else:
        context.records.wish(job_id, wish)
        context.wake.set()
    return context.job_object(job_id)


def _go_on(context: Context, job: JobRow) -> bool:
    """Queue a job that stands still; whether it could be."""
    # An end that nobody was told of yet is told: after this it is none.
    tell_webhook(context, job.job_id)
    if not context.records.move(job.job_id, resumable_from(job), "queued", event=("info", RESUMED)):
        return False
    context.records.count_crash(job.job_id, reset=True)
    return True


def _conflict(job_id: str, status: str, why: str) -> ApiError:
    return ApiError(400, f"{job_id} is '{status}': {why}.", code="invalid_job_state")


async def _stream(context: Context, job_id: str) -> AsyncIterator[dict[str, str]]:
    last = 0
    while True:
        job = await asyncio.to_thread(context.store.get_job, job_id)
        for event in await asyncio.to_thread(context.store.events, job_id, after=last):
            last = event.number
            yield {"data": wire.dump_always(event_object(event))}
        if job.status in ENDED:
            yield {"data": "[DONE]"}
            return
        await asyncio.sleep(STREAM_LOOK_S)
