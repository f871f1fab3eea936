"""Making facts beside the pages, in processes of their own: records are parsed there, and the pages go on answering."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from agentrft.dashboard.facts_files import Setting, make_missing
from agentrft.dashboard.findings_file import make_findings
from agentrft.dashboard.step_files import NOTHING
from agentrft.errors import ArtifactsError

logger = logging.getLogger(__name__)

# A job whose looking through failed is not looked through again at once.
AGAIN_AFTER_S = 30.0


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
    """Looks through one job at a time; asking again meanwhile does nothing. Safe across threads."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._process: BaseProcess | None = None
        self._failed: dict[Path, tuple[float, str]] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def want(self, work: Work) -> None:
        """Have the missing facts of a job made. Where another job's are being made, whoever asks next begins it."""
        with self._lock:
            if self._is_closed or (self._thread is not None and self._thread.is_alive()):
                return
            failed_at, _ = self._failed.get(work.job_folder, (-AGAIN_AFTER_S, ""))
            if time.monotonic() - failed_at < AGAIN_AFTER_S:
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
            process, thread = self._process, self._thread
            if process is not None and process.is_alive():
                process.terminate()
        if thread is not None:
            thread.join(5)

    def _work(self, work: Work) -> None:
        problem = ""
        try:
            while not self._is_closed:
                fetched = work.fetch_some()
                if not self._looked_through(work):
                    problem = "its rollouts could not be looked through"
                    break
                if not fetched:
                    break
        except ArtifactsError as error:
            problem = error.cause
        if problem and not self._is_closed:
            logger.warning("%s: %s", work.job_folder.name, problem)
            self._failed[work.job_folder] = time.monotonic(), problem
        else:
            self._failed.pop(work.job_folder, None)

    def _looked_through(self, work: Work) -> bool:
        """In a process of its own; whether that went well."""
        arguments = (work.job_folder, work.setting, work.facts_folder, dict(work.elsewhere))
        process = multiprocessing.get_context("spawn").Process(target=look_through, args=arguments, daemon=True)
        with self._lock:
            if self._is_closed:
                return True
            self._process = process
            process.start()
        process.join()
        is_fine = process.exitcode == 0
        with self._lock:
            self._process = None
            process.close()
        return is_fine


def look_through(
    job_folder: Path, setting: Setting, facts_folder: Path, elsewhere: Mapping[str, float] = NOTHING
) -> None:
    """All that the pages need of a job, of the rollouts that are here."""
    make_missing(job_folder, setting, facts_folder, elsewhere)
    make_findings(job_folder, facts_folder, elsewhere)
