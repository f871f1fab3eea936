"""`agentrft dashboard`: the pages of a folder of runs, with nothing of a server around them."""

import socket
from pathlib import Path

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from agentrft.dashboard.pages import dashboard_app
from agentrft.dashboard.runs import Runs
from agentrft.store import JobStore

# A page of another site could otherwise lead a browser here under a name of its own (DNS rebinding).
OWN_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def runs_of(output_dir: Path) -> Runs:
    """The jobs of a folder."""
    return Runs(JobStore(output_dir, create=False))


def own_pages(runs: Runs) -> ASGIApp:
    """The pages for this machine alone."""
    return TrustedHostMiddleware(dashboard_app(runs), allowed_hosts=OWN_NAMES)


def run_dashboard(output_dir: Path, *, port: int) -> None:
    """Show the pages on loopback until SIGINT or SIGTERM."""
    runs = runs_of(output_dir)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    # Before the address is told: who reads it and connects at once waits, and is not refused.
    listening.listen()
    print(f"agentrft shows {output_dir} at http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(own_pages(runs), log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        runs.close()
        runs.store.close()
