"""The one place where errors become words and exit codes."""

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from agentrft import wire
from agentrft.cli.output import Output, configure_logging
from agentrft.errors import AgentRFTError, Interrupted, JobPaused, UserError, missing_package

LABELS: dict[type[AgentRFTError], tuple[str, str]] = {
    Interrupted: ("Stopped", "yellow"),
    JobPaused: ("Paused", "yellow"),
}
DISK_REMEDY = "Correct the path, its permissions, or the free space, and run the command again."


@contextmanager
def needing(command: str, extra: str) -> Iterator[None]:
    """What is imported inside may need packages that an extra of ours brings.

    Raises:
        UserError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("agentrft"):
            raise
        raise missing_package(f"`agentrft {command}`", error.name, extra=extra) from error


class CommandFailed(AgentRFTError):
    """An error of a command that already has something to say: `result` is added to its `--json` answer."""

    def __init__(self, error: AgentRFTError, result: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.error = error
        self.result = result
        self.exit_code = error.exit_code


class Commands(TyperGroup):
    """The group of all commands. It looks for `--json` and `--debug` itself, so that they hold for errors in the
    command line too.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given
        output = Output(as_json="--json" in given)
        configure_logging(logging.DEBUG if debug else logging.WARNING)
        try:
            _check_encoding(given)
            code = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
            if code == Interrupted.exit_code:  # a Ctrl-C that no command handled, such as while torch is imported
                raise Interrupted("stopped at once")
        except AgentRFTError as error:
            code = _report(error, output, debug)
        except typer.TyperException as error:
            code = _report(
                UserError(
                    error.format_message(),
                    "`agentrft --help` lists the commands, and `agentrft COMMAND --help` the options of one.",
                ),
                output,
                debug,
            )
        except OSError as error:
            # Without a file's name it is none of the user's files: then the traceback is what helps.
            if error.filename is None:
                raise
            code = _report(UserError(f"{error.filename}: {error.strerror}.", DISK_REMEDY), output, debug)
        sys.exit(code if isinstance(code, int) else 0)


def _check_encoding(arguments: Sequence[str]) -> None:
    """What a terminal sends that is not UTF-8 can be neither stored nor shown again."""
    for number, argument in enumerate(arguments, start=1):
        if wire.clean_text(argument) != argument:
            raise UserError(f"argument {number} is not UTF-8: {wire.clean_text(argument)}", "Give it as UTF-8 text.")


def describe(error: AgentRFTError, job_id: str | None = None) -> dict[str, Any]:
    """`{"cause", "remedy", "exit_code"}` of an error."""
    if isinstance(error, UserError):
        cause, remedy = error.cause, error.remedy
    elif isinstance(error, Interrupted):
        cause, remedy = str(error), f"Go on with `agentrft train --resume {job_id}`." if job_id else "Run it again."
    else:
        # A failed job's message ends in a line with its remedy.
        cause, _, remedy = str(error).rpartition("\n")
        if not cause:
            cause, remedy = remedy, "Run it again with --debug to see where it happened."
    return {"cause": cause, "remedy": remedy, "exit_code": error.exit_code}


def _report(error: AgentRFTError, output: Output, debug: bool) -> int:
    result: dict[str, Any] = {}
    if isinstance(error, CommandFailed):
        result, error = error.result, error.error
    described = describe(error, result.get("job"))
    if debug:
        traceback.print_exception(error)
    if output.as_json:
        output.emit({**result, "error": described})
    label, style = LABELS.get(type(error), ("Error", "red"))
    output.errors.print(f"[bold {style}]{label}:[/] {escape(described['cause'])}", soft_wrap=True)
    output.errors.print(f"[bold]What to do:[/] {escape(described['remedy'])}", soft_wrap=True)
    return error.exit_code
