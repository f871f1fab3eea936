"""The jobs that the pages are about: their records, their rollouts' facts, and what was found in them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

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

    def job(self, job_id: str) -> "JobData":
        """A job as it is now.

        Raises:
            UserError: there is no such job.
        """
        return JobData(self, self.store.get_job(job_id))

    def choices(self, job_id: str, facts: Sequence[Path]) -> Choices:
        """What there is to filter a job's rollouts by; of the facts that there are."""
        with self._lock:
            kept = self._choices.get(job_id)
            if kept is None or kept[0] != facts:
                while len(self._choices) >= MOST_KEPT:
                    self._choices.pop(next(iter(self._choices)))
                kept = self._choices[job_id] = (list(facts), Rollouts(facts).values(CHOICES))
            return kept[1]


class JobData:
    """A job as one page shows it: what the page needs of the store and of the disk is read once."""

    def __init__(self, runs: Runs, row: JobRow) -> None:
        self.runs = runs
        self.row = row
        self.job_id = row.job_id

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """`JobStore.metrics`."""
        return self.runs.store.metrics(self.job_id)

    @cached_property
    def files(self) -> list[StepFile]:
        """Of its steps; the making of what facts are missing is begun."""
        found = step_files(self._folder, self._facts_folder)
        if any(map(_is_to_be_made, found)):
            self._index()
        return found

    @cached_property
    def steps_missing(self) -> int:
        """How many steps are still to be looked at."""
        return sum(map(_is_to_be_made, self.files))

    @cached_property
    def rollouts(self) -> Rollouts:
        """What is known of its rollouts."""
        return Rollouts(self._ready)

    @property
    def choices(self) -> Choices:
        """What there is to filter its rollouts by."""
        return self.runs.choices(self.job_id, self._ready)

    @cached_property
    def findings(self) -> tuple[Findings, int]:
        """What was found in its training rollouts, and how many steps are still to be looked at."""
        found, is_whole = load_findings(self._folder, self.files, self._facts_folder)
        if not is_whole:
            self._index()
        missing = sum(one.phase == TRAIN and _is_to_be_made(one) for one in self.files)
        return found, missing or int(not is_whole)

    def source(self, phase: str, step: int) -> Path | None:
        """The file of a step's rollouts."""
        return next((one.source for one in self.files if (one.phase, one.step) == (phase, step)), None)

    def steps(self, phase: str) -> list[int]:
        """The steps of a phase, rising."""
        return [one.step for one in self.files if one.phase == phase]

    @cached_property
    def _ready(self) -> list[Path]:
        return [one.facts for one in self.files if one.is_ready]

    @property
    def _folder(self) -> Path:
        return self.runs.store.job_folder(self.job_id)

    @property
    def _facts_folder(self) -> Path | None:
        return None if self.runs.facts_in is None else self.runs.facts_in / self.job_id

    def _index(self) -> None:
        self.runs.indexer.want(self._folder, tools_of(self.row.setting("tools")), self._facts_folder)


def _is_to_be_made(one: StepFile) -> bool:
    return not one.is_ready and not one.is_unreadable
