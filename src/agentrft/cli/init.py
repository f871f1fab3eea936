"""What `agentrft init` does: it writes a small project that trains as it is."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.errors import UserError


def write_project(directory: Path) -> list[Path]:
    """Write the starter project: a job, its data, a tool server, a grader and a README.

    Args:
        directory: where to; created with its parents if it does not exist.

    Returns:
        The files written, sorted.

    Raises:
        UserError: `directory` is a file, or holds something already.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file.", "Name a folder that does not exist yet, or an empty one.")
    if directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty.", "Name a folder that does not exist yet, or an empty one.")
    return sorted(_copy(files("agentrft") / "cli" / "templates" / "project", directory))


def _copy(source: Traversable, target: Path) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for entry in source.iterdir():
        if entry.name == "__pycache__":
            continue
        if entry.is_dir():
            written += _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())
            written.append(target / entry.name)
    return written


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a small project: a job, its data, a tool server and a grader."""
    output = Output(as_json=as_json)
    written = write_project(directory)
    output.emit({"directory": str(directory), "files": [str(path) for path in written]})
    for path in written:
        output.console.print(f"  {path}", markup=False, soft_wrap=True)
    output.console.print(
        f"Next:\n  cd {directory}\n  python tool_server.py &\n  agentrft baseline job.yaml --warm-start\n"
        "  agentrft train --resume latest",
        markup=False,
        soft_wrap=True,
    )
