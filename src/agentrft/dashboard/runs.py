"""The jobs that the pages are about: their records, their rollouts' facts, and what was found in them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from agentrft.dashboard.facts_files import StepFile, step_files, tools_of
from agentrft.dashboard.findings_file import load_findings
from agentrft.dashboard.indexing import Indexer
from agentrft.dashboard.queries import Rollouts
from agentrft.report.why import Findings
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TRAIN

CHOICES = ("phase", "outcome", "tools", "behaviours")
# What filters offer is kept for so many jobs.
MOST_KEPT = 16
Choices = dict[str, list[str]]


@dataclass
class Runs:
    """The jobs of a store.

    Attributes:
        facts_in: where facts are kept instead of beside the rollouts, as where these may not be written.
    """

    store: JobStore
    facts_in: Path | None = None
    indexer: Indexer = field(default_factory=Indexer)
    _choices: dict[str, tuple[list[Path], Choices]] = field(default_factory=dict[str, tuple[list[Path], Choices]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        self.indexer.close()

    def files(self, job: JobRow) -> list[StepFile]:
        """Of a job's steps; the making of what facts are missing is begun."""
        found = step_files(self.store.job_folder(job.job_id), self._facts_folder(job))
        if any(_is_to_be_made(one) for one in found):
            self._index(job)
        return found

    def rollouts(self, job: JobRow) -> tuple[Rollouts, int]:
        """What is known of a job's rollouts, and how many steps are still to be looked at."""
        files = self.files(job)
        ready = [one.facts for one in files if one.is_ready]
        return Rollouts(ready), sum(map(_is_to_be_made, files))

    def choices(self, job: JobRow) -> Choices:
        """What there is to filter a job's rollouts by."""
        ready = [one.facts for one in self.files(job) if one.is_ready]
        with self._lock:
            kept = self._choices.get(job.job_id)
            if kept is None or kept[0] != ready:
                while len(self._choices) >= MOST_KEPT:
                    self._choices.pop(next(iter(self._choices)))
                kept = self._choices[job.job_id] = (ready, Rollouts(ready).values(CHOICES))
            return kept[1]

    def source(self, job: JobRow, phase: str, step: int) -> Path | None:
        """The file of a step's rollouts."""
        return next((one.source for one in self.files(job) if (one.phase, one.step) == (phase, step)), None)

    def findings(self, job: JobRow) -> tuple[Findings, int]:
        """What was found in a job's training rollouts, and how many steps are still to be looked at."""
        files = self.files(job)
        found, is_whole = load_findings(self.store.job_folder(job.job_id), files, self._facts_folder(job))
        if not is_whole:
            self._index(job)
        missing = sum(one.phase == TRAIN and _is_to_be_made(one) for one in files)
        return found, missing or int(not is_whole)

    def _index(self, job: JobRow) -> None:
        folder = self.store.job_folder(job.job_id)
        self.indexer.want(folder, tools_of(job.setting("tools")), self._facts_folder(job))

    def _facts_folder(self, job: JobRow) -> Path | None:
        return None if self.facts_in is None else self.facts_in / job.job_id


def _is_to_be_made(one: StepFile) -> bool:
    return not one.is_ready and not one.is_unreadable
