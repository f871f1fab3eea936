"""Rollouts of jobs that ran on another machine: copies are fetched from the bucket when somebody looks at them.

A copy is needed until the facts are made of it, and again when one of its rollouts is opened; so only the last ones are
kept, beside the facts. The job's own folder is left to whoever runs jobs here.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from agentrft.dashboard.step_files import StepFile
from agentrft.store import Artifacts
from agentrft.store.layout import rollouts_folder

# At once, before facts are made of them; and that are kept of a job. One copy may be larger than that.
BATCH_FILES, BATCH_BYTES = 16, 128 << 20
KEPT_BYTES = 512 << 20
_lock = threading.Lock()


def fetch(artifacts: Artifacts, job_folder: Path, one: StepFile) -> bool:
    """Have a copy of a step's rollouts; whether there is one now.

    Raises:
        ArtifactsError: the bucket does not answer.
    """
    with _lock:
        if not one.is_elsewhere:
            return True
        one.source.parent.mkdir(parents=True, exist_ok=True)
        if not artifacts.copy(rollouts_folder(job_folder) / one.source.name, one.source):
            return False
        one.mark(one.source, one.state())
        _forget(one.source.parent.glob("[!.]*.parquet"), one.source)
        return True


def fetch_some(artifacts: Artifacts, job_folder: Path, files: Sequence[StepFile]) -> int:
    """Have copies of the first steps that lack facts; of how many. Raises as `fetch`."""
    fetched, size = 0, 0
    for one in files:
        if not (one.is_to_be_made and one.is_elsewhere):
            continue
        if fetched >= BATCH_FILES or size >= BATCH_BYTES:
            break
        if fetch(artifacts, job_folder, one):
            fetched += 1
            size += one.source.stat().st_size
    return fetched


def _forget(copies: Iterable[Path], newest: Path) -> None:
    """Delete the oldest copies."""
    sizes = [(stat.st_ctime_ns, stat.st_size, path) for path in copies if path != newest for stat in (path.stat(),)]
    left = KEPT_BYTES - newest.stat().st_size
    for _, size, path in sorted(sizes, reverse=True):
        left -= size
        if left < 0:
            path.unlink(missing_ok=True)
