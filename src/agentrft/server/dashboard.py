"""The web pages, mounted in the server: loaded when somebody first looks, since they bring libraries of their own."""

import asyncio
import threading

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agentrft.server.context import Context
from agentrft.server.page_actions import PageActions

ROOT = "/dashboard"
MISSING = "The pages need packages that are not installed here: run `pip install 'agentrft[dashboard]'`.\n"


class Dashboard:
    """The pages of a server's jobs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._app: ASGIApp | None = None
        self._close = lambda: None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await asyncio.to_thread(self._load)
        await app(scope, receive, send)

    def close(self) -> None:
        """End what looks through rollouts."""
        self._close()

    def _load(self) -> ASGIApp:
        with self._lock:
            if self._app is None:
                try:
                    from agentrft.dashboard.pages import dashboard_app
                    from agentrft.dashboard.runs import Runs
                except ModuleNotFoundError as error:
                    if error.name is None or error.name.startswith("agentrft"):
                        raise
                    self._app = PlainTextResponse(MISSING, status_code=501)
                else:
                    runs, actions = Runs(self._context.store), PageActions(self._context)
                    self._app, self._close = dashboard_app(runs, root=ROOT, server=actions), runs.close
            return self._app
