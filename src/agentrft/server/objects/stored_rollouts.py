"""A rollout of a job as it is stored, with the row that it was of, to be graded once more."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentrft.data import find_sample
from agentrft.server.context import Context
from agentrft.server.creation.request import content_path
from agentrft.server.errors import ApiError, not_found
from agentrft.store import JobRow
from agentrft.store.artifacts import read_rollout
from agentrft.store.layout import DATA_FILES, rollouts_file

FIELDS = {"job_id": str, "phase": str, "step": int, "trace_id": str}
PARAM = "rollout"


def stored_rollout(asked: Any, context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its record, and its row as graders get it.

    Args:
        asked: `{"job_id", "phase", "step", "trace_id"}`.

    Raises:
        ApiError: it is not there, or the file is gone that its row was in.
    """
    if not _is_place(asked):
        fields = ", ".join(FIELDS)
        phases = ", ".join(DATA_FILES)
        message = f"{PARAM}: an object with {fields} is needed; the phase is one of {phases}."
        raise ApiError(400, message, param=PARAM, code="invalid_value")
    job = context.job(asked["job_id"])[0]
    path = rollouts_file(context.store.job_folder(job.job_id), asked["phase"], asked["step"])
    record = read_rollout(path, asked["trace_id"]) if context.store.artifacts.fetch(path) else None
    if record is None:
        raise not_found(f"There is no rollout '{asked['trace_id']}' in this step.", param=PARAM, code="not_found")
    data = data_file(job, asked["phase"], context)
    sample = None if data is None else find_sample(data, record["sample_id"])
    if sample is None:
        raise not_found(f"The row {record['sample_id']} is gone.", "Its file was deleted.", param=PARAM, code="gone")
    return record, sample.item


def data_file(job: JobRow, phase: str, context: Context) -> Path | None:
    """The file that the rollouts of a phase are of, here; None where the job has none, or it was deleted."""
    stored = job.setting(DATA_FILES[phase])
    if stored is None:
        return None
    path = content_path(context.settings, Path(stored).name)
    return path if context.store.artifacts.fetch(path) else None


def _is_place(asked: Any) -> bool:
    return (
        isinstance(asked, Mapping)
        and asked.keys() == FIELDS.keys()
        and all(type(asked[name]) is kind for name, kind in FIELDS.items())
        and asked["phase"] in DATA_FILES
        and 0 <= asked["step"] < 10**9
    )
