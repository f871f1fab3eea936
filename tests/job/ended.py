"""What a job that ran to its end has left behind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.store import JobStore, read_rollouts


@dataclass(frozen=True)
class Ended:
    """A job that ran to its end: its folder, its metrics file, and what the store says."""

    folder: Path
    lines: list[dict[str, Any]]
    best_step: int | None

    @property
    def rollouts(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        files = [read_rollouts(path) for path in sorted((self.folder / "rollouts").glob("*.parquet"))]
        return {(rows[0]["phase"], rows[0]["step"]): rows for rows in files}


def ended(runs: Path) -> Ended:
    with JobStore(runs, create=False) as store:
        job = store.find_job("latest")
        assert job.status == "succeeded"
        assert not list(store.job_folder(job.job_id).glob("checkpoints/.*.partial"))
        folder = store.job_folder(job.job_id)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert lines == [dict(row) for row in store.metrics(job.job_id)]
        return Ended(folder, lines, job.best_step)
