"""Lists of the server's jobs: each query reads the columns that its list needs, and never a sealed spec."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from agentrft.server.records.rows import UNKNOWN_MODEL
from agentrft.store import JobStatus
from agentrft.store import tables as t
from agentrft.store.database import Database
from agentrft.store.states import ENDED

Metadata = Mapping[str, str] | Literal["any", "none"]
# Rows that are read at once where a filter is applied here.
CHUNK = 500


@dataclass(frozen=True)
class TunedJob:
    """What names of models and their checkpoints need of a job.

    Attributes:
        base: the public name that the job was created with; `weights` is what that stands for.
    """

    job_id: str
    status: JobStatus
    weights: str
    step: int
    best_step: int | None
    created_at: float
    finished_at: float | None
    base: str
    suffix: str | None


class JobLists:
    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, *, after: str | None, limit: int, metadata: Metadata = "any", oldest_first: bool = False
    ) -> tuple[list[str], bool]:
        """Ids of jobs behind the job `after`, and whether there are more; nothing where there is no such job.

        Args:
            metadata: pairs that a job must have, or "none" for jobs without any.
        """
        with self._database.read() as connection:
            start = None
            if after is not None:
                start = connection.execute(_served(t.jobs.c.number).where(t.jobs.c.job_id == after)).scalar()
                if start is None:
                    return [], False
            if metadata == "any":
                query = _behind(_served(t.jobs.c.number, t.jobs.c.job_id), start, oldest_first).limit(limit + 1)
                found = [job_id for _, job_id in _rows(connection, query)]
            else:
                found = list(_fitting(connection, metadata, start, oldest_first, limit + 1))
        return found[:limit], len(found) > limit

    def all(self) -> list[str]:
        with self._database.read() as connection:
            return list(connection.execute(_served(t.jobs.c.job_id)).scalars())

    def tuned(self) -> list[TunedJob]:
        """All jobs, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(_tuned().order_by(t.jobs.c.number.desc()))
            return [_tuned_job(row) for row in rows]

    def tuned_by(self, job_id: str) -> TunedJob | None:
        with self._database.read() as connection:
            row = connection.execute(_tuned().where(t.jobs.c.job_id == job_id)).first()
            return None if row is None else _tuned_job(row)

    def users_of_files(self) -> dict[str, str]:
        """The ids of files that jobs and runs of evals need which have not ended, each with one of these."""
        job = t.jobs.c.spec["job"]
        names = ("training_file", "validation_file", "test_file")
        of_warm_start = (job["warm_start"][name] for name in ("training_file", "examples_file"))
        paths = (*(job[name] for name in names), *of_warm_start)
        query = _served(t.jobs.c.job_id, *(path.as_string() for path in paths)).where(t.jobs.c.status.not_in(ENDED))
        with self._database.read() as connection:
            rows = _rows(connection, query)
            runs = t.eval_runs.c
            going_on = select(runs.file_id, runs.run_id).where(
                runs.file_id.is_not(None), runs.status.in_(("queued", "in_progress"))
            )
            of_runs = {file_id: run_id for file_id, run_id in connection.execute(going_on)}
        return of_runs | {Path(path).name: job_id for job_id, *found in rows for path in found if path is not None}

    def job_beginning_with(self, job_id: str) -> str | None:
        """A job that has not ended and begins with weights of this one."""
        start = t.jobs.c.spec["job"]["start_from"].as_string()
        query = _served(t.jobs.c.job_id).where(t.jobs.c.status.not_in(ENDED), start.contains(f"/{job_id}/"))
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def in_status(self, status: JobStatus) -> list[str]:
        with self._database.read() as connection:
            return list(connection.execute(_served(t.jobs.c.job_id).where(t.jobs.c.status == status)).scalars())

    def counts(self) -> dict[JobStatus, int]:
        query = _served(t.jobs.c.status, func.count()).group_by(t.jobs.c.status)
        with self._database.read() as connection:
            return {status: count for status, count in _rows(connection, query)}

    def steps_of_running(self) -> dict[str, int]:
        """The last committed step, by job."""
        query = _served(t.jobs.c.job_id, t.jobs.c.step).where(t.jobs.c.status == "running")
        with self._database.read() as connection:
            return {job_id: step for job_id, step in _rows(connection, query)}

    def sealed_specs(self) -> dict[str, str]:
        """Of all jobs: for a new key."""
        with self._database.read() as connection:
            query = select(t.served_jobs.c.job_id, t.served_jobs.c.sealed_spec)
            return {job_id: sealed for job_id, sealed in connection.execute(query)}


def _served(*columns: Any) -> Any:
    return select(*columns).select_from(t.jobs).join(t.served_jobs, t.served_jobs.c.job_id == t.jobs.c.job_id)


def _rows(connection: Connection, query: Any) -> list[Any]:
    return list(connection.execute(query))


def _tuned() -> Any:
    jobs, request = t.jobs.c, t.served_jobs.c.request
    return _served(
        jobs.job_id,
        jobs.status,
        jobs.model,
        jobs.step,
        jobs.best_step,
        jobs.created_at,
        jobs.finished_at,
        request["model"].as_string(),
        request["suffix"].as_string(),
    )


def _tuned_job(row: Any) -> TunedJob:
    values: list[Any] = list(row)
    *_, base, suffix = values
    values[-2:] = [UNKNOWN_MODEL if base is None else str(base), None if suffix is None else str(suffix)]
    return TunedJob(*values)


def _behind(query: Any, start: int | None, oldest_first: bool) -> Any:
    number = t.jobs.c.number
    if start is not None:
        query = query.where(number > start if oldest_first else number < start)
    return query.order_by(number if oldest_first else number.desc())


def _fitting(
    connection: Connection, metadata: Metadata, start: int | None, oldest_first: bool, most: int
) -> Iterator[str]:
    """Keys of metadata may be any text, which the databases' paths into JSON may not: so they are compared here."""
    fits = _test_of(metadata)
    query = _served(t.jobs.c.number, t.jobs.c.job_id, t.served_jobs.c.request["metadata"])
    while True:
        rows = _rows(connection, _behind(query, start, oldest_first).limit(CHUNK))
        for _, job_id, found in rows:
            if fits(found if isinstance(found, dict) else {}):
                yield job_id
                most -= 1
                if not most:
                    return
        if len(rows) < CHUNK:
            return
        start = rows[-1].number


def _test_of(metadata: Metadata) -> Callable[[Mapping[str, str]], bool]:
    if isinstance(metadata, Mapping):
        return lambda found: all(found.get(key) == value for key, value in metadata.items())
    return lambda found: not found
