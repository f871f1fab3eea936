"""The jobs that the pages are about: their records, their rollouts' facts, and what was found in them."""

import hashlib
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import W_OK, access
from pathlib import Path
from typing import Any

from agentrft.dashboard.facts_files import Setting
from agentrft.dashboard.fetching import fetch, fetch_some
from agentrft.dashboard.findings_file import Stored, load_findings
from agentrft.dashboard.indexing import Indexer, Work
from agentrft.dashboard.kept import Kept, identity
from agentrft.dashboard.queries import Rollouts
from agentrft.dashboard.step_files import StepFile, own_facts, step_files
from agentrft.errors import ArtifactsError
from agentrft.report.why import Findings
from agentrft.store import JobRow, JobStore, SharedArtifacts
from agentrft.store.layout import TRAIN, rollouts_file, rollouts_folder

CHOICES = ("phase", "outcome", "tools", "behaviours")
# What filters offer, and what data files have in common, is kept for so many jobs.
MOST_KEPT = 16
# How old what is known of a bucket may be, in seconds.
LISTED_S = 10.0
Choices = dict[str, list[str]]
# Another one for every process: what pages look like may differ between them.
PROCESS = secrets.token_hex(4)


@dataclass
class Runs:
    """The jobs of a store.

    Attributes:
        facts_in: where facts are kept, a folder for each job, instead of beside its rollouts.
        indexer: makes them.
        choices: what there is to filter by, by job.
        findings: what was read of them, by file.
        duplicates: rows that are nearly the same, by data files.
    """

    store: JobStore
    facts_in: Path | None = None
    indexer: Indexer = field(default_factory=Indexer)
    choices: Kept[Choices] = field(default_factory=lambda: Kept(MOST_KEPT))
    findings: Kept[Stored | None] = field(default_factory=lambda: Kept(MOST_KEPT))
    duplicates: Kept[dict[str, Any]] = field(default_factory=lambda: Kept(MOST_KEPT))
    _listed: Kept[tuple[dict[str, float], str]] = field(default_factory=lambda: Kept(4 * MOST_KEPT))
    _own: "tempfile.TemporaryDirectory[str] | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """End what runs beside the pages, and remove the facts that had no place of their own."""
        self.indexer.close()
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.cleanup()

    def job(self, job_id: str) -> "JobData":
        """A job as it is now.

        Raises:
            UserError: there is no such job.
        """
        return JobData(self, self.store.get_job(job_id))

    def facts_folder(self, job_folder: Path) -> Path:
        """Where a job's facts are kept: beside its rollouts; where that may not be written, in a folder that is removed
        with the pages."""
        if self.facts_in is not None:
            return self.facts_in / job_folder.name
        if may_be_written(own_facts(job_folder)):
            return own_facts(job_folder)
        with self._lock:
            if self._own is None:
                self._own = tempfile.TemporaryDirectory(prefix="agentrft-facts-", ignore_cleanup_errors=True)
            return Path(self._own.name) / job_folder.name

    def elsewhere(self, job_folder: Path, clock: int) -> tuple[dict[str, float], str]:
        """Rollouts of a job in the bucket by their names, and what the bucket said instead.

        Args:
            clock: it is asked again where this has changed.
        """

        def listed() -> tuple[dict[str, float], str]:
            try:
                return self.store.artifacts.entries(rollouts_folder(job_folder)), ""
            except ArtifactsError as error:
                return {}, error.cause

        return self._listed.get(job_folder, clock, listed)


def may_be_written(folder: Path) -> bool:
    """Whether files may be made in a folder that may have to be made itself."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), None)
    return there is not None and access(there, W_OK)


class JobData:
    """A job as one page shows it: what the page needs of the store and of the disk is read once."""

    def __init__(self, runs: Runs, row: JobRow) -> None:
        self.runs = runs
        self.row = row
        self.job_id = row.job_id
        self._folder = runs.store.job_folder(row.job_id)
        self._facts_folder = runs.facts_folder(self._folder)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """`JobStore.metrics`."""
        return self.runs.store.metrics(self.job_id)

    @cached_property
    def files(self) -> list[StepFile]:
        """Of its steps; the making of what facts are missing is begun."""
        found = step_files(self._folder, self._facts_folder, self._elsewhere[0])
        if any(one.is_to_be_made for one in found):
            self._index()
        return found

    @cached_property
    def steps_missing(self) -> int:
        """How many steps are still to be looked at."""
        return sum(one.is_to_be_made for one in self.files)

    @property
    def problem(self) -> str:
        """Why steps are missing that should not be; empty where none is."""
        return self._elsewhere[1] or (self.runs.indexer.failure(self._folder) if self.steps_missing else "")

    @cached_property
    def rollouts(self) -> Rollouts:
        """What is known of its rollouts."""
        return Rollouts(self._ready)

    @property
    def choices(self) -> Choices:
        """What there is to filter its rollouts by."""
        state = tuple(map(identity, self._ready))
        return self.runs.choices.get(self.job_id, state, lambda: self.rollouts.values(CHOICES))

    @cached_property
    def findings(self) -> tuple[Findings, int]:
        """What was found in its training rollouts, and how many steps are still to be looked at."""
        found, is_whole = load_findings(self.files, self._facts_folder, self.runs.findings)
        if not is_whole:
            self._index()
        missing = sum(one.phase == TRAIN and one.is_to_be_made for one in self.files)
        return found, missing or int(not is_whole)

    @cached_property
    def tag(self) -> str:
        """Of all that its pages show: the same as before where nothing has changed. Cheap to ask for."""
        facts = [(one.facts.name, identity(one.facts), one.is_ready, one.is_unreadable) for one in self.files]
        numbers = self.runs.store.newest_numbers(self.job_id)
        seen = (PROCESS, vars(self.row), numbers, facts, self.findings[1], self.problem)
        return hashlib.sha256(json.dumps(seen, default=str).encode()).hexdigest()[:24]

    def source(self, phase: str, step: int) -> Path | None:
        """The file of a step's rollouts, which is fetched where it lies elsewhere; None where there is none.

        Raises:
            ArtifactsError: the bucket does not answer.
        """
        for one in self.files:
            if (one.phase, one.step) == (phase, step):
                there = fetch(self.runs.store.artifacts, self._folder, one)
                return one.source if there else None
        return None

    def steps(self, phase: str) -> list[int]:
        """The steps of a phase, rising."""
        return [one.step for one in self.files if one.phase == phase]

    @cached_property
    def _elsewhere(self) -> tuple[Mapping[str, float], str]:
        """Of a job that ran on another machine, its rollouts in the bucket, asked only where some are missing here."""
        if not isinstance(self.runs.store.artifacts, SharedArtifacts):
            return {}, ""
        expected = {
            path.name
            for row in self.metrics
            if row.get("rollouts") and not (path := rollouts_file(self._folder, row["phase"], row["step"])).exists()
        }
        if not expected:
            return {}, ""
        found, problem = self.runs.elsewhere(self._folder, int(time.monotonic() / LISTED_S))
        return {name: since for name, since in found.items() if name in expected}, problem

    @cached_property
    def _ready(self) -> list[Path]:
        return [one.facts for one in self.files if one.is_ready]

    def _index(self) -> None:
        def some() -> int:
            files = step_files(self._folder, self._facts_folder, elsewhere)
            return fetch_some(self.runs.store.artifacts, self._folder, files)

        elsewhere = self._elsewhere[0]
        self.runs.indexer.want(Work(self._folder, Setting.of(self.row), self._facts_folder, elsewhere, some))
