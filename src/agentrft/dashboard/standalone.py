"""`agentrft dashboard`: the pages of a folder of runs, with nothing of a server around them."""

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import W_OK, access
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from agentrft import __version__
from agentrft.dashboard.pages import dashboard_router
from agentrft.dashboard.runs import Runs
from agentrft.store import JobStore

# A page of another site could otherwise lead a browser here under a name of its own (DNS rebinding).
OWN_NAMES = ["localhost", "127.0.0.1", "[::1]", "testserver"]


def dashboard_app(output_dir: Path) -> FastAPI:
    """The application; what it reads is not changed, and facts go beside the rollouts where these may be written."""
    store = JobStore(output_dir, create=False)
    facts_in = None if access(output_dir, W_OK) else Path(tempfile.mkdtemp(prefix="agentrft-facts-"))
    runs = Runs(store, facts_in)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        runs.close()
        store.close()

    app = FastAPI(
        title="agentrft dashboard",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=OWN_NAMES)
    app.include_router(dashboard_router(runs))

    @app.exception_handler(404)
    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(getattr(error, "detail", "There is no such page.")), status_code=404)

    @app.get("/jobs", include_in_schema=False)
    async def all_jobs() -> Response:
        return RedirectResponse("/")

    return app


def run_dashboard(output_dir: Path, *, port: int) -> None:
    """Show the pages on loopback until SIGINT or SIGTERM."""
    app = dashboard_app(output_dir)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    print(f"agentrft shows {output_dir} at http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listening])
