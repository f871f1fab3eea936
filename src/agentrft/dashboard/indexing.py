"""Making facts beside the pages, in processes of their own: records are parsed there, and the pages go on answering."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from agentrft.dashboard.facts_files import make_missing
from agentrft.dashboard.findings_file import make_findings

logger = logging.getLogger(__name__)

# A job whose looking through failed is not looked through again at once.
AGAIN_AFTER_S = 30.0


class Indexer:
    """A process for one job at a time; asking again meanwhile does nothing. Safe across threads."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._folder: Path | None = None
        self._failed: dict[Path, float] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def want(self, job_folder: Path, tools: Sequence[str], facts_folder: Path | None = None) -> None:
        """Have the missing facts of a job made. Where another job's are being made, whoever asks next begins it."""
        with self._lock:
            if self._is_closed or not self._is_idle():
                return
            if time.monotonic() - self._failed.get(job_folder, -AGAIN_AFTER_S) < AGAIN_AFTER_S:
                return
            context = multiprocessing.get_context("spawn")
            arguments = (job_folder, list(tools), facts_folder)
            self._process = context.Process(target=look_through, args=arguments, daemon=True)
            self._folder = job_folder
            self._process.start()

    def close(self) -> None:
        """End the process; what is half made is made again by the next."""
        with self._lock:
            self._is_closed = True
            if self._process is not None and self._process.is_alive():
                self._process.terminate()
                self._process.join(5)

    def _is_idle(self) -> bool:
        if self._process is None:
            return True
        if self._process.is_alive():
            return False
        if self._process.exitcode != 0 and self._folder is not None:
            logger.warning("%s: its rollouts could not be looked through", self._folder.name)
            self._failed[self._folder] = time.monotonic()
        self._process.close()
        self._process = None
        return True


def look_through(job_folder: Path, tools: list[str], facts_folder: Path | None) -> None:
    """All that the pages need of a job."""
    make_missing(job_folder, tools, facts_folder)
    make_findings(job_folder, facts_folder)
