"""Where rollouts are read from: a stored job's steps, the one in progress included, or a Parquet file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentrft.cli.targets import open_store
from agentrft.errors import UserError
from agentrft.store import JobRow, JobStore, read_rollouts, rollout_row
from agentrft.store.layout import rollouts_folder
from agentrft.wire import is_object

FILE_NAME = re.compile(r"(failed-)?(?P<phase>[a-z_]+)-(?P<step>\d+)")
PHASES = ("train", "validation")


def stored_rollouts(
    name: str, output_dir: Path | None, *, phase: str | None = None, step: int | None = None
) -> tuple[str, list[dict[str, Any]]]:
    """What they are called, and their rows as `rollout_row` makes them.

    Args:
        name: a Parquet file, or a stored job: id, prefix or `latest`.
        step: of the phase; the newest that there is without it.

    Raises:
        UserError: there are none.
    """
    if phase not in (None, *PHASES):
        raise UserError(f"--phase {phase}: no such phase.", f"Give one of: {', '.join(PHASES)}.")
    if Path(name).suffix == ".parquet":
        return name, _read(Path(name))
    with open_store(output_dir) as store:
        return _newest(store, store.find_job(name), phase, step)


def _newest(store: JobStore, job: JobRow, phase: str | None, step: int | None) -> tuple[str, list[dict[str, Any]]]:
    """The rows of the newest step that fits: one in progress, else the file that was written last."""
    for source, rows in _in_progress(store, job, phase, step):
        if rows:
            return source, rows
    found = [
        path for path in rollouts_folder(store.job_folder(job.job_id)).glob("*.parquet") if FILE_NAME.match(path.stem)
    ]
    fitting = [path for path in found if _fits(path, phase, step)]
    if not fitting:
        known = ", ".join(sorted(path.stem for path in found)) or "none yet"
        raise UserError(
            f"{job.job_id} ({job.status}) has no such rollouts{_error_of(job)}.", f"It has these (phase-step): {known}."
        )
    newest = max(fitting, key=lambda path: path.stat().st_mtime_ns)
    return f"{job.job_id} {newest.stem}", read_rollouts(newest)


def _in_progress(
    store: JobStore, job: JobRow, phase: str | None, step: int | None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    last = job.step if job.phase in PHASES else 0
    for one_phase in PHASES if phase is None else (phase,):
        for one_step in (last + 1, last) if step is None else (step,):
            pending = store.pending_rollouts(job.job_id, one_phase, one_step).values()
            source = f"{job.job_id} {one_phase}-{one_step:05d}, in progress"
            yield source, [rollout_row(record, phase=one_phase) for record in pending]


def _fits(path: Path, phase: str | None, step: int | None) -> bool:
    match = FILE_NAME.match(path.stem)
    return match is not None and phase in (None, match["phase"]) and step in (None, int(match["step"]))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file.", "`agentrft eval` writes one with --out.")
    from agentrft.rollout import Rollout

    rows: list[dict[str, Any]] = []
    for number, row in enumerate(read_rollouts(path)):
        try:
            rollout = Rollout.from_dict(row["record"])
            if not all(is_object(message) and "role" in message for message in rollout.messages):
                raise ValueError("its messages are none")
            rows.append(rollout_row(rollout.as_dict(), phase=row.get("phase") or ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}, row {number}: its record is no rollout: {error!r}.",
                "Give a file that a job or `agentrft eval --out` wrote.",
            ) from error
    return rows


def _error_of(job: JobRow) -> str:
    return f"; it ended with: {job.error.splitlines()[0]}" if job.error else ""
