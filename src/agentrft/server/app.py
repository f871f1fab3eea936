"""The application: all routes, who may use them, and what runs beside them."""

import asyncio
import hmac
import logging
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import IO, Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrft import __version__
from agentrft.server.artifacts import ANSWER_AGE_S, ANSWER_PATIENCE_S, driver_environment, first_use, open_artifacts
from agentrft.server.cleaning import clean
from agentrft.server.context import Context
from agentrft.server.errors import error_response, install_handlers
from agentrft.server.inference_client import Inference
from agentrft.server.names import load_catalog
from agentrft.server.records import Records
from agentrft.server.rotation import use_key
from agentrft.server.routes import evals, files, graders, health, jobs, models
from agentrft.server.scheduler import Scheduler
from agentrft.server.schemas.answers import ERRORS, describe
from agentrft.server.sealing import Sealer
from agentrft.server.settings import Settings
from agentrft.server.unchanged import Known, Memory, answer_again
from agentrft.server.webhooks import deliver
from agentrft.store import JobStore

logger = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
# What clients ask for again and again, and what only the database says.
POLLED = re.compile(r"/v1/fine_tuning/jobs/[^/]+(/events)?")


def create_app(settings: Settings) -> FastAPI:
    """The application; its database is opened here, and its workers start with it.

    Raises:
        UserError: the database, the artifact store, the key or `models.yaml` cannot be used.
    """
    environment = driver_environment()
    artifacts = open_artifacts(settings, environment, patience_s=ANSWER_PATIENCE_S, max_age_s=ANSWER_AGE_S)
    store = JobStore(settings.jobs_dir, database=settings.database, artifacts=artifacts)
    settings.files_dir.mkdir(parents=True, exist_ok=True)
    records = Records(store)
    key, key_lock = use_key(settings.data_dir, records)
    first_use(settings, store, records, environment)
    context = Context(settings, store, records, Sealer(key), load_catalog(settings.data_dir))
    lifespan = _lifespan(context, key, key_lock, environment)
    app = FastAPI(
        title="agentrft", version=__version__, lifespan=lifespan, responses=ERRORS,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.context = context
    app.state.answered = Counter()
    install_handlers(app)
    describe(app)
    app.add_middleware(Guard, context=context, answered=app.state.answered)
    for group in (files, jobs, graders, models, evals, health):
        app.include_router(group.router)
    return app


def _lifespan(context: Context, key: str, key_lock: IO[str], environment: dict[str, str]) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scheduler = Scheduler(context.settings, context.records, key, environment)
        context.wake = scheduler.woken
        app.state.inference = Inference(
            context.settings.data_dir,
            max_models=context.settings.max_models,
            max_adapters=context.settings.max_adapters,
        )
        await asyncio.to_thread(files.look_at_uploaded, context)
        await asyncio.to_thread(jobs.look_at_created, context)
        tasks = [asyncio.create_task(one) for one in (scheduler.run(), deliver(context), clean(context))]
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
            key_lock.close()

    return lifespan


class Guard:
    """Checks the key, gives every answer an id, counts it, and turns what broke into an answer.

    Plain ASGI: the framework's own middleware costs as much as a small answer does.
    """

    def __init__(self, app: ASGIApp, context: Context, answered: Counter[tuple[str, int]]) -> None:
        self._app = app
        self._context = context
        self._answered = answered
        self._memory = Memory(context.store.database.changes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, status = f"req_{uuid.uuid4().hex}", 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        needs_key = self._context.settings.needs_key and scope["path"] not in OPEN
        is_polled = scope["method"] == "GET" and POLLED.fullmatch(scope["path"]) is not None
        try:
            known = await self._memory.now() if needs_key or is_polled else None
            if known is not None and needs_key and not await _has_key(scope, self._context, known):
                response = error_response(
                    401, "Give an API key of this server as `Authorization: Bearer …`; `agentrft keys create` makes "
                    "one.", code="invalid_api_key",
                )  # fmt: skip
                await response(scope, receive, send_with_id)
            elif known is not None and is_polled:
                await answer_again(self._app, known, scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except Exception:  # the boundary: whatever it was, the client gets an answer and the log the cause
            logger.exception("%s: %s %s", request_id, scope["method"], scope["path"])
            if not status:
                message = f"Something broke here; the log names it by {request_id}."
                await error_response(500, message, code="internal")(scope, receive, send_with_id)
        self._answered[getattr(scope.get("route"), "path", "unknown"), status] += 1


async def _has_key(scope: Scope, context: Context, known: Known) -> bool:
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if not hmac.compare_digest(scheme.lower(), "bearer") or not key:
        return False
    key = key.strip()
    if key not in known.keys:
        if not await asyncio.to_thread(context.records.is_valid_key, key):
            return False
        known.keys.add(key)
    return True
