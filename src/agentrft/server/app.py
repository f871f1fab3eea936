"""The application: all routes, who may use them, and what runs beside them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import IO, Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from agentrft import __version__
from agentrft.server.artifacts import ANSWER_AGE_S, ANSWER_PATIENCE_S, driver_environment, first_use, open_artifacts
from agentrft.server.background.expiry import clean
from agentrft.server.background.validation import left_over
from agentrft.server.background.webhooks import deliver
from agentrft.server.context import Context
from agentrft.server.dashboard import ROOT, Dashboard
from agentrft.server.encryption.rotation import seal_old_urls, use_key
from agentrft.server.encryption.sealing import Sealer
from agentrft.server.errors import install_handlers
from agentrft.server.guard import Guard
from agentrft.server.inference.client import Inference
from agentrft.server.json_bodies import WireResponse
from agentrft.server.models.catalog import load_catalog
from agentrft.server.private_files import keep_private
from agentrft.server.records import Records
from agentrft.server.routes import eval_runs, evals, files, graders, health, jobs, models, reports, tool_calls
from agentrft.server.schemas.answers import ERRORS, describe
from agentrft.server.settings import Settings
from agentrft.server.workers.queues import EvalQueue, JobQueue
from agentrft.server.workers.scheduler import Scheduler
from agentrft.store import JobStore
from agentrft.store.mending import mend_records


class Application(FastAPI):
    """The framework behind the guard: polled answers and wrong keys go through none of its layers."""

    guard: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.guard(scope, receive, send)


def create_app(settings: Settings) -> Application:
    """The application; its database is opened here, and its workers start with it.

    Raises:
        UserError: the database, the artifact store, the key or `models.yaml` cannot be used.
    """
    keep_private(settings.data_dir)
    environment = driver_environment()
    artifacts = open_artifacts(settings, environment, patience_s=ANSWER_PATIENCE_S, max_age_s=ANSWER_AGE_S)
    store = JobStore(settings.jobs_dir, database=settings.database, artifacts=artifacts)
    mend_records(store.database)
    settings.files_dir.mkdir(parents=True, exist_ok=True)
    records = Records(store)
    key, key_lock = use_key(settings.data_dir, records)
    first_use(settings, store, records, environment)
    sealer = Sealer(key)
    seal_old_urls(sealer, records)
    context = Context(settings, store, records, sealer, load_catalog(settings.data_dir))
    lifespan = _lifespan(context, key, key_lock, environment)
    app = Application(
        title="agentrft",
        version=__version__,
        lifespan=lifespan,
        responses=ERRORS,
        default_response_class=WireResponse,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.state.answered = Counter()
    app.state.dashboard = Dashboard(context)
    install_handlers(app)
    describe(app)
    app.guard = Guard(super(Application, app).__call__, context, app.state.answered)
    for group in (files, jobs, graders, tool_calls, models, evals, eval_runs, reports, health):
        app.include_router(group.router)
    app.mount(ROOT, app.state.dashboard)
    return app


def _lifespan(context: Context, key: str, key_lock: IO[str], environment: dict[str, str]) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        jobs_queue = JobQueue(context.settings, context.records)
        evals_queue = EvalQueue(context.settings, context.records)
        scheduler = Scheduler(context.settings, jobs_queue, key, environment, lambda: context.own_server)
        evaluator = Scheduler(context.settings, evals_queue, key, environment, lambda: context.own_server)
        context.wake, context.wake_evals = scheduler.woken, evaluator.woken
        app.state.inference = Inference(
            context.settings.data_dir,
            max_models=context.settings.max_models,
            max_adapters=context.settings.max_adapters,
            vllm=context.settings.vllm,
            vllm_seeds=context.settings.vllm_seeds,
        )
        beside = (scheduler.run(), evaluator.run(), deliver(context), clean(context), *await left_over(context))
        tasks = [asyncio.create_task(one) for one in beside]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            app.state.dashboard.close()
            await context.close()
            await app.state.inference.close()
            context.store.close()
            key_lock.close()

    return lifespan
