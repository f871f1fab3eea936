"""`agentrft dashboard`: web pages of a folder of runs."""

from pathlib import Path
from typing import Annotated

import typer

from agentrft.cli.errors import needing
from agentrft.cli.output import DebugOption
from agentrft.cli.targets import DEFAULT_OUTPUT_DIR, open_store
from agentrft.errors import UserError


def dashboard(
    runs: Annotated[Path, typer.Argument(help="The folder of jobs.", show_default="./runs")] = DEFAULT_OUTPUT_DIR,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="On loopback; 0 takes a free one.")] = 8322,
    debug: DebugOption = False,
) -> None:
    """Show how jobs go, and why their models changed, as pages on this machine."""
    open_store(runs).close()
    with needing("dashboard", "dashboard"):
        from agentrft.dashboard.standalone import run_dashboard
    try:
        run_dashboard(runs.absolute(), port=port)
    except OSError as error:
        raise UserError(
            f"--port {port}: {error.strerror or error}.", "Give another port; 0 takes a free one."
        ) from error
