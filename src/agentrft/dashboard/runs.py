"""The jobs that the pages are about: their records, their rollouts' facts, and what was found in them."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agentrft.dashboard.facts_files import StepFile, known_behaviours, step_files, tools_of
from agentrft.dashboard.indexing import Indexer
from agentrft.dashboard.queries import Rollouts
from agentrft.report.why import Findings, find
from agentrft.report.why.evidence import AMOUNTS, Evidence
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TRAIN

# Findings of so many jobs are kept.
MOST_KEPT = 8


@dataclass
class Runs:
    """The jobs of a store.

    Attributes:
        facts_in: where facts are kept instead of beside the rollouts, as where these may not be written.
    """

    store: JobStore
    facts_in: Path | None = None
    indexer: Indexer = field(default_factory=Indexer)
    _findings: dict[tuple[Any, ...], Findings] = field(default_factory=dict[tuple[Any, ...], Findings])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        self.indexer.close()

    def files(self, job: JobRow) -> list[StepFile]:
        """Of a job's steps; the making of what facts are missing is begun."""
        folder = self.store.job_folder(job.job_id)
        found = step_files(folder, self._facts_folder(job))
        if any(not one.is_ready for one in found):
            self.indexer.want(folder, tools_of(job.setting("tools")), self._facts_folder(job))
        return found

    def rollouts(self, job: JobRow) -> tuple[Rollouts, int]:
        """What is known of a job's rollouts, and how many steps are still to be looked at."""
        files = self.files(job)
        ready = [one.facts for one in files if one.is_ready]
        return Rollouts(ready), len(files) - len(ready)

    def source(self, job: JobRow, phase: str, step: int) -> Path | None:
        """The file of a step's rollouts."""
        return next((one.source for one in self.files(job) if (one.phase, one.step) == (phase, step)), None)

    def findings(self, job: JobRow) -> tuple[Findings, int]:
        """What was found in a job's training rollouts, and how many steps are still to be looked at."""
        files = [one for one in self.files(job) if one.phase == TRAIN]
        ready = [one.facts for one in files if one.is_ready]
        key = (job.job_id, *((str(path), path.stat().st_mtime_ns) for path in ready))
        with self._lock:
            if key not in self._findings:
                while len(self._findings) >= MOST_KEPT:
                    self._findings.pop(next(iter(self._findings)))
                self._findings[key] = find(evidence_of(ready))
            return self._findings[key], len(files) - len(ready)

    def _facts_folder(self, job: JobRow) -> Path | None:
        return None if self.facts_in is None else self.facts_in / job.job_id


def evidence_of(facts: list[Path]) -> Evidence:
    """The training rollouts of some steps as columns."""
    if not facts:
        return Evidence.of([], {})
    table = Rollouts(facts).columns(TRAIN)
    known = known_behaviours(facts)
    offsets = table["behaviours"].combine_chunks()
    lengths = offsets.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    encoded = offsets.flatten().dictionary_encode()
    rows = np.repeat(np.arange(table.num_rows), lengths)
    ids, names = encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
    order = np.argsort(ids, kind="stable")
    bounds = np.searchsorted(ids[order], np.arange(len(names) + 1))
    members = {
        known[name]: rows[order[bounds[number] : bounds[number + 1]]]
        for number, name in enumerate(names)
        if name in known
    }

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.nan_to_num(table[name].to_numpy().astype(np.float64))

    return Evidence.of_columns(
        step=table["step"].to_numpy().astype(np.int64),
        sample=table["sample_id"].to_pylist(),
        reward=column("reward"),
        advantage=column("advantage"),
        holdouts=_holdouts(table["holdout_scores"].to_pylist()),
        amounts={name: column(name) for name in AMOUNTS},
        members=members,
        ids=table["trace_id"].to_pylist(),
    )


def _holdouts(texts: list[str]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    if all(text == "{}" for text in texts):
        return {}
    scores = [json.loads(text) for text in texts]
    names = sorted({name for one in scores for name in one})
    return {name: np.array([one.get(name, np.nan) for one in scores], dtype=np.float64) for name in names}
