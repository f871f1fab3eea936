"""Running the command, in this process or as one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from typer.testing import CliRunner

from agentrft.cli.main import app
from tests.cli.forked import Command, Forked

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}

FORKED = Forked("agentrft.cli.main", "agentrft.job.run")


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> Any:
        """Of `--json`: standard output, which is one JSON document and nothing else."""
        return json.loads(self.stdout)


def run_here(*arguments: str) -> Ran:
    """Run the command in this process, which has torch already."""
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def run_alone(*arguments: str, folder: Path) -> Ran:
    """Run the command as a process of its own, which need not import what it uses."""
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        command = Command(list(arguments), folder, ENVIRONMENT, limit_s=TIMEOUT_S)
        code = FORKED.run(command, stdout.fileno(), stderr.fileno())
        for file in (stdout, stderr):
            file.seek(0)
        return Ran(code, stdout.read(), stderr.read())


def run_fresh(*arguments: str, folder: Path) -> Ran:
    """Run the command as a user does, in a Python of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "agentrft.cli", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agentrft.cli", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
