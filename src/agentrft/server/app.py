"""The application: all routes, who may use them, and what runs beside them."""

import asyncio
import hmac
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel

from agentrft import __version__
from agentrft.server.context import Context
from agentrft.server.errors import error_response, install_handlers
from agentrft.server.inference_client import Inference
from agentrft.server.names import load_catalog
from agentrft.server.records import Records
from agentrft.server.routes import evals, files, graders, health, jobs, models
from agentrft.server.scheduler import Scheduler
from agentrft.server.sealing import Sealer, load_key
from agentrft.server.settings import Settings
from agentrft.server.webhooks import deliver
from agentrft.store import JobStore

logger = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """Every error of the API."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 404, 405, 409, 413, 424, 503)
}


def create_app(settings: Settings) -> FastAPI:
    """The application; its database is opened here, and its workers start with it.

    Raises:
        UserError: the database, the key or `models.yaml` cannot be used.
    """
    key = load_key(settings.data_dir)
    store = JobStore(settings.jobs_dir, database=settings.database)
    settings.files_dir.mkdir(parents=True, exist_ok=True)
    records = Records(store)
    context = Context(settings, store, records, Sealer(key), load_catalog(settings.data_dir))
    app = FastAPI(
        title="agentrft", version=__version__, lifespan=_lifespan(context, key), responses=ERRORS,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.context = context
    app.state.answered = Counter()
    install_handlers(app)
    app.middleware("http")(_guard)
    for group in (files, jobs, graders, models, evals, health):
        app.include_router(group.router)
    return app


def _lifespan(context: Context, key: str) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scheduler = Scheduler(context.settings, context.records, key)
        context.wake = scheduler.woken
        app.state.inference = Inference(context.settings.data_dir, max_models=context.settings.max_models)
        await asyncio.to_thread(files.look_at_uploaded, context)
        await asyncio.to_thread(jobs.look_at_created, context)
        tasks = [asyncio.create_task(scheduler.run()), asyncio.create_task(deliver(context))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await app.state.inference.close()
            context.store.close()

    return lifespan


async def _guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    """Check the key, give every answer an id, and count it."""
    request_id = f"req_{uuid.uuid4().hex}"
    context: Context = request.app.state.context
    if context.settings.needs_key and request.url.path not in OPEN and not await _has_key(request, context):
        response: Response = error_response(
            401, "Give an API key of this server as `Authorization: Bearer …`; `agentrft keys create` makes one.",
            code="invalid_api_key",
        )  # fmt: skip
    else:
        try:
            response = await proceed(request)
        except Exception:  # the boundary: whatever it was, the client gets an answer and the log the cause
            logger.exception("%s: %s %s", request_id, request.method, request.url.path)
            response = error_response(500, f"Something broke here; the log names it by {request_id}.", code="internal")
    response.headers["x-request-id"] = request_id
    route = request.scope.get("route")
    request.app.state.answered[getattr(route, "path", "unknown"), response.status_code] += 1
    return response


async def _has_key(request: Request, context: Context) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if not hmac.compare_digest(scheme.lower(), "bearer") or not key:
        return False
    return await asyncio.to_thread(context.records.is_valid_key, key.strip())
