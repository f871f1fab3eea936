"""Trackio: by default a database on this machine, which `trackio show` shows."""

import logging
import os
from importlib import import_module
from typing import Any

from agentrft.sinks.base import Record, RunFacts
from agentrft.spec.integrations import TrackioSpec

logger = logging.getLogger(__name__)

RECORD = "record"
SPEAKING = ("trackio", "trackio.run", "trackio.utils")
# By these Trackio writes elsewhere, where nobody can be asked how far a run is.
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioSink:
    """A row has the number of its record, by which a resumed job sees what is there. Where runs are kept on another
    machine, a resumed job has a second run of the same name, with all of its points.
    """

    def __init__(self, spec: TrackioSpec, run: RunFacts) -> None:
        self._spec = spec
        self._facts = run
        # By name, since what checks our types may have no room for it: it wants an older Pillow than others do.
        self._trackio: Any = import_module("trackio")
        for name in SPEAKING:
            # It greets on standard output, where the answer of `--json` goes.
            vars(import_module(name))["print"] = _log

    def open(self) -> int:
        # Of a name that the job's file gives there may be runs of other jobs.
        name = f"{self._spec.name}-{self._facts.job_id}" if self._spec.name else self._facts.job_id
        is_elsewhere = any(os.environ.get(variable) for variable in ELSEWHERE)
        self._run = self._trackio.init(
            self._spec.project,
            name,
            config=dict(self._facts.config),
            resume="never" if is_elsewhere else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        if is_elsewhere:
            return 0
        storage = import_module("trackio.sqlite_storage").SQLiteStorage
        rows = storage.get_logs(self._spec.project, name)
        return max((int(row[RECORD]) + 1 for row in rows if RECORD in row), default=0)

    def write(self, record: Record) -> None:
        self._run.log({**record.values, RECORD: record.number}, step=record.step)

    def close(self, status: str) -> None:
        self._run.alert(f"The job's process ended: {status}", level=self._trackio.AlertLevel.INFO)
        self._run.finish()


def _log(*texts: object, **_: object) -> None:
    logger.info("%s", " ".join(map(str, texts)))
