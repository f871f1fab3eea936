"""Making facts beside the pages, in a process of its own: records are parsed there, and the pages go on answering."""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from agentrft.dashboard.facts_files import Setting, make_missing
from agentrft.dashboard.findings_file import make_findings
from agentrft.dashboard.step_files import NOTHING
from agentrft.errors import ArtifactsError

logger = logging.getLogger(__name__)

# A job whose looking through failed is not looked through again at once.
AGAIN_AFTER_S = 30.0
# After a look comes a pause so many times as long, up to a bound.
PAUSES, LONGEST_PAUSE_S = 3.0, 30.0
# How far the process gives way to others, and how long it waits for the next look.
NICE, IDLE_S = 15, 60.0
# One that grew to more than this ends after its look: what was read of thousands of rollouts stays in its heap.
MOST_MEMORY_MB = 300


@dataclass(frozen=True)
class Work:
    """The looking through of one job.

    Attributes:
        elsewhere: see `step_files`.
        fetch_some: has some of the rollouts here that lie elsewhere and lack facts; returns of how many steps.
    """

    job_folder: Path
    setting: Setting
    facts_folder: Path
    elsewhere: Mapping[str, float]
    fetch_some: Callable[[], int]


class Indexer:
    """Looks through one job at a time; asking again meanwhile does nothing. Safe across threads.

    The process stays for the next look, since starting one costs more than looking through a step of a running job, and
    gives way to whatever else there is to do, such as that job's training.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._helper: Helper | None = None
        self._failed: dict[Path, tuple[float, str]] = {}
        self._not_before: dict[Path, float] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def want(self, work: Work) -> None:
        """Have the missing facts of a job made. Where another job's are being made, whoever asks next begins it."""
        with self._lock:
            if self._is_closed or (self._thread is not None and self._thread.is_alive()):
                return
            failed_at, _ = self._failed.get(work.job_folder, (-AGAIN_AFTER_S, ""))
            now = time.monotonic()
            if now - failed_at < AGAIN_AFTER_S or now < self._not_before.get(work.job_folder, now):
                return
            name = f"facts-of-{work.job_folder.name}"
            self._thread = threading.Thread(target=self._work, args=(work,), name=name, daemon=True)
            self._thread.start()

    def failure(self, job_folder: Path) -> str:
        """Why a job was not looked through when that was tried last; empty where it was."""
        return self._failed.get(job_folder, (0.0, ""))[1]

    def close(self) -> None:
        """End the process; what is half made is made again by the next."""
        with self._lock:
            self._is_closed = True
            helper, self._helper, thread = self._helper, None, self._thread
        if helper is not None:
            helper.end()
        if thread is not None:
            thread.join(5)

    def _work(self, work: Work) -> None:
        problem, took = "", 0.0
        try:
            while not self._is_closed:
                fetched = work.fetch_some()
                seconds = self._looked_through(work)
                if seconds is None:
                    problem = "its rollouts could not be looked through"
                    break
                took += seconds
                if not fetched:
                    break
        except ArtifactsError as error:
            problem = error.cause
        if problem and not self._is_closed:
            logger.warning("%s: %s", work.job_folder.name, problem)
            self._failed[work.job_folder] = time.monotonic(), problem
        else:
            self._failed.pop(work.job_folder, None)
        # A job whose steps are short would else be looked through all the time.
        self._not_before[work.job_folder] = time.monotonic() + min(PAUSES * took, LONGEST_PAUSE_S)

    def _looked_through(self, work: Work) -> float | None:
        """In the process beside: seconds of a core that it took, or None where it failed."""
        arguments = (work.job_folder, work.setting, work.facts_folder, dict(work.elsewhere))
        seconds = None
        # A second time where the process had ended for want of work in the very moment in which it was asked.
        for _ in range(2):
            with self._lock:
                if self._is_closed:
                    return 0.0
                if self._helper is None or not self._helper.is_alive:
                    self._helper = Helper()
                helper = self._helper
            seconds = helper.look_through(arguments)
            if seconds is not None or not helper.ended_idle:
                break
        return seconds


class Helper:
    """The process. It ends by itself when nothing was asked of it for minutes, and with the one that started it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_help, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def ended_idle(self) -> bool:
        return self._process.exitcode == 0

    def look_through(self, arguments: tuple[Path, Setting, Path, Mapping[str, float]]) -> float | None:
        """Seconds of a core that it took; None where the process ended before it was done."""
        try:
            self._connection.send(arguments)
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return None

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


def _help(connection: Connection) -> None:
    """Look through what is asked for. An exception ends the process, which tells that it failed."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    while connection.poll(IDLE_S):
        try:
            arguments = connection.recv()
        except EOFError:
            return
        started = time.process_time()
        look_through(*arguments)
        connection.send(time.process_time() - started)
        if _memory_mb() > MOST_MEMORY_MB:
            return


def _memory_mb() -> float:
    """What this process has in memory; 0 where the system has no `/proc`.

    The peak that `getrusage` tells is no help: on Linux a process begins with that of the one that started it.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def look_through(
    job_folder: Path, setting: Setting, facts_folder: Path, elsewhere: Mapping[str, float] = NOTHING
) -> None:
    """All that the pages need of a job, of the rollouts that are here."""
    make_missing(job_folder, setting, facts_folder, elsewhere)
    make_findings(job_folder, facts_folder, elsewhere)
