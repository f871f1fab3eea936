"""Where a command writes: results to standard output, everything else to standard error."""

import json
import logging
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from agentrft.store.numbers import finite

PLAIN_WIDTH = 120

JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output, nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show log lines, and tracebacks of errors.")]


class Output:
    """The two streams of a command.

    Attributes:
        console: what a person reads; standard error in JSON mode.
        errors: standard error.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.errors = _console(stderr=True)
        self.console = self.errors if as_json else _console(stderr=False)

    def emit(self, value: Any) -> None:
        """The command's result, in JSON mode. Numbers that are not finite become null."""
        if self.as_json:
            typer.echo(json.dumps(finite(value), ensure_ascii=False, default=str))


def configure_logging(level: int) -> None:
    """Log lines to standard error, and no chatter of libraries."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")
    handler = RichHandler(console=_console(stderr=True), show_path=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("agentrft").setLevel(level)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        # Lines in files and pipes are not folded to some terminal's width.
        console = Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    return console
