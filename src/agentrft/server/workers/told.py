"""What a worker is told when it is started: by standard input, never by arguments, which other users could read."""

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.graders.own_server import grading_for_told
from agentrft.server.encryption.rotation import hold_key
from agentrft.server.settings import Settings
from agentrft.server.workers.leases import LOST, NICE


@dataclass(frozen=True)
class Told:
    """What a worker needs.

    Attributes:
        name: of what it works on: a job's or a run's id.
        owner: under which it takes the lease of that.
        parent: the process id of the server, without which it ends.
        driver_environment: what the artifact store's driver reads. It is not in the process's environment, where what
            the worker runs would see it.
        beside: how its judges reach models of the server, as `grading_for_told` reads it.
    """

    settings: Settings
    secret_key: str
    name: str
    owner: str
    parent: int
    driver_environment: dict[str, str]
    beside: dict[str, Any]

    def as_line(self) -> bytes:
        settings = {
            **asdict(self.settings),
            "data_dir": str(self.settings.data_dir),
            "webhook_url": None,
            "webhook_secret": None,
        }
        return json.dumps({**vars(self), "settings": settings}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: str) -> "Told":
        told: dict[str, Any] = json.loads(line)
        settings = told["settings"]
        return cls(**{**told, "settings": Settings(**{**settings, "data_dir": Path(settings["data_dir"])})})


def run_worker(run: Callable[[Told], int]) -> None:
    """The whole of a worker's process. `run` gets what it was told, and returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    told = Told.from_line(sys.stdin.readline())
    os.nice(NICE)
    try:
        # Looked at before the server: while that lives, the key that it told is the one in use.
        key_lock = hold_key(told.settings.data_dir)
    except UserError:
        sys.exit(LOST)
    with key_lock, grading_for_told(told.beside):
        sys.exit(run(told))
