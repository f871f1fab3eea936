"""Making facts beside the pages, in a process of its own: records are parsed there, and the pages go on answering."""

import logging
import multiprocessing
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from agentrft.dashboard.facts_files import make_missing
from agentrft.dashboard.findings_file import make_findings

logger = logging.getLogger(__name__)

# The process is begun anew after so many pieces of work, which gives its memory back.
WORK_PER_PROCESS = 20


class Indexer:
    """One piece of work at a time; asking again for what is being made does nothing. Safe across threads."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[Path, Future[int]] = {}
        self._lock = threading.Lock()

    def want(self, job_folder: Path, tools: Sequence[str], facts_folder: Path | None = None) -> "Future[int]":
        """Have the missing facts of a job made."""
        with self._lock:
            running = self._running.get(job_folder)
            if running is not None and not running.done():
                return running
            future = self._submit(job_folder, list(tools), facts_folder)
            self._running[job_folder] = future
        future.add_done_callback(_log_what_failed)
        return future

    def is_making(self, job_folder: Path) -> bool:
        """Whether facts of a job are being made."""
        with self._lock:
            running = self._running.get(job_folder)
            return running is not None and not running.done()

    def close(self) -> None:
        """End the process; what is half made is made again by the next."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def _submit(self, job_folder: Path, tools: list[str], facts_folder: Path | None) -> "Future[int]":
        for _ in range(2):
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=WORK_PER_PROCESS)
            try:
                return self._pool.submit(_look_through, job_folder, tools, facts_folder)
            except BrokenProcessPool:
                # Its process was killed; another one is begun.
                self._pool = None
        raise RuntimeError("no process for facts can be started")


def _look_through(job_folder: Path, tools: list[str], facts_folder: Path | None) -> int:
    """All that the pages need of a job."""
    made = make_missing(job_folder, tools, facts_folder)
    make_findings(job_folder, facts_folder)
    return made


def _log_what_failed(future: "Future[int]") -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.warning("facts of rollouts could not be made: %s", error)
