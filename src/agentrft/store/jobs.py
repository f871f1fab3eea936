"""Jobs in the database: their state, events, metrics, and the graded rollouts of the step in progress."""

import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from agentrft.errors import UserError
from agentrft.store import tables
from agentrft.store.database import FILE_NAME, Database
from agentrft.store.files import append_line, lock_folder, replace_file
from agentrft.store.layout import STEP_PREFIX, WARM_PREFIX, checkpoints_folder, step_folder
from agentrft.store.numbers import finite
from agentrft.store.rows import (
    Event,
    EventLevel,
    JobRow,
    PendingKey,
    PendingRollout,
    as_mapping,
    event_values,
    metrics_line,
)
from agentrft.store.shared import Artifacts
from agentrft.store.states import ENDED, JobStatus, check_transition

ID_PREFIX = "ftjob-"
ID_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
JOBS_SHOWN = 5
KEYS_AT_ONCE = 500
METRICS_FILE = "metrics.jsonl"
EVENT = tables.events.c
# The fields of `Event`.
EVENTS = select(EVENT.created_at, EVENT.level, EVENT.message, EVENT.data, EVENT.number)


class JobStore:
    """The jobs of one folder, `<output_dir>/agentrft.db`; each has its own folder `<output_dir>/<job_id>/`.

    Every method is one short transaction, on disk when it returns. Safe across threads and processes.

    Args:
        output_dir: the folder of runs.
        create: make the folder and its database where they do not exist.
        database: the URL of another database than the file in that folder.
        artifacts: where else the files of jobs are kept.

    Raises:
        UserError: the database is missing, unusable, or of another schema version.
    """

    def __init__(
        self, output_dir: Path, *, create: bool = True, database: str | None = None, artifacts: Artifacts | None = None
    ) -> None:
        self.output_dir = output_dir.absolute()
        self.artifacts = artifacts or Artifacts()
        self.database = Database(database or self.output_dir / FILE_NAME, create=create)

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> "JobStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- jobs

    def create_job(
        self, spec: dict[str, Any], *, model: str, seed: int, also: Callable[[Connection, str], None] | None = None
    ) -> str:
        """Store a new job and make its folder. `spec` is stored as passed: remove header values before.

        Args:
            also: gets the connection and the job's id, for what is stored with it or not at all.
        """
        job_id = ID_PREFIX + "".join(secrets.choice(ID_CHARACTERS) for _ in range(12))
        self.job_folder(job_id).mkdir(parents=True)
        values = {"job_id": job_id, "status": "created", "model": model, "seed": seed, "spec": spec}
        with self.database.write() as connection:
            connection.execute(insert(tables.jobs).values(created_at=time.time(), **values))
            if also is not None:
                also(connection, job_id)
        return job_id

    def job_folder(self, job_id: str) -> Path:
        """Where the job's metrics, rollouts and checkpoints are."""
        return self.output_dir / job_id

    def get_job(self, job_id: str) -> JobRow:
        """The job by its id.

        Raises:
            UserError: there is none; it names the newest jobs.
        """
        with self.database.read() as connection:
            return self._job(connection, job_id)

    def find_job(self, name: str) -> JobRow:
        """The job by its id, by the beginning of its id (with or without `ftjob-`), or the newest by "latest".

        Raises:
            UserError: no job fits, or several do.
        """
        jobs = self.list_jobs()
        if name == "latest":
            if not jobs:
                raise self._no_such_job("latest", jobs)
            return jobs[0]
        fitting = [
            job for job in jobs if name and job.job_id.removeprefix(ID_PREFIX).startswith(name.removeprefix(ID_PREFIX))
        ]
        exact = [job for job in fitting if job.job_id == name]
        if len(exact or fitting) == 1:
            return (exact or fitting)[0]
        if fitting:
            shown = ", ".join(job.job_id for job in fitting[:JOBS_SHOWN])
            raise UserError(f"'{name}' fits {len(fitting)} jobs: {shown}.", "Give more of the id.")
        raise self._no_such_job(name, jobs)

    def list_jobs(self) -> list[JobRow]:
        """All jobs, newest first."""
        with self.database.read() as connection:
            rows = connection.execute(select(tables.jobs).order_by(tables.jobs.c.number.desc()))
            return [JobRow.of(row) for row in rows]

    def set_status(
        self, job_id: str, new: JobStatus, *, error: str | None = None, events: Sequence[tuple[EventLevel, str]] = ()
    ) -> None:
        """Move the job on. Running records this process; leaving it records the time and `error`.

        Args:
            events: level and message of what is told with it: who sees the new status sees them too.

        Raises:
            ValueError: the job's state does not allow that.
        """
        with self.database.write() as connection:
            check_transition(self._job(connection, job_id).status, new)
            running = new == "running"
            finished_at = time.time() if new in ENDED else None
            pid = os.getpid() if running else None
            self._update(connection, job_id, status=new, pid=pid, finished_at=finished_at, error=error)
            for level, message in events:
                connection.execute(insert(tables.events).values(event_values(job_id, level, message)))

    def set_phase(self, job_id: str, phase: str, step: int) -> None:
        """Say where the job is."""
        self._change(job_id, phase=phase, step=step)

    def set_total_steps(self, job_id: str, total_steps: int) -> None:
        """Say how many steps the job has."""
        self._change(job_id, total_steps=total_steps)

    def set_best_step(self, job_id: str, step: int) -> None:
        """Say which step is the result of the job."""
        self._change(job_id, best_step=step)

    def checkpoints(self, job_id: str) -> dict[int, float]:
        """The steps whose weights are kept, and since when, in seconds since the epoch."""
        return self._kept(job_id, STEP_PREFIX)

    def warm_checkpoints(self, job_id: str) -> dict[int, float]:
        """As `checkpoints`, of the batches of a warm start that is under way."""
        return self._kept(job_id, WARM_PREFIX)

    def delete_checkpoints(self, job_id: str, step: int | None) -> None:
        """Delete the weights of a step, or of all; what was measured stays."""
        for kept in self.checkpoints(job_id) if step is None else (step,):
            self.artifacts.delete(step_folder(self.job_folder(job_id), kept))

    def record_files(self, job_id: str, digests: dict[str, str]) -> None:
        """What the job's data files were when they were looked at: `files` of its spec."""
        spec = {**self.get_job(job_id).spec, "files": digests}
        self._change(job_id, spec=spec)

    def record_hyperparameters(self, job_id: str, hyperparameters: dict[str, Any]) -> None:
        """Keep what "auto" became."""
        self._change(job_id, hyperparameters=hyperparameters)

    def job_lock(self, job_id: str) -> AbstractContextManager[None]:
        """Hold the job for this process: nobody else can run it meanwhile. A killed process lets go by itself.

        Raises:
            UserError: another process holds it; the message names its process id.
        """
        self.get_job(job_id)
        return lock_folder(self.job_folder(job_id), job_id)

    def recover(self, job_id: str) -> bool:
        """Mark a job "interrupted" that says "running" although nobody runs it. Call while holding `job_lock`.

        Returns:
            Whether that was so: the process that ran it was killed.
        """
        if self.get_job(job_id).status != "running":
            return False
        self.set_status(job_id, "interrupted", error="the process that ran the job was killed")
        return True

    # --- events

    def add_event(self, job_id: str, level: EventLevel, message: str, data: dict[str, Any] | None = None) -> None:
        """Keep that something happened."""
        with self.database.write() as connection:
            connection.execute(insert(tables.events).values(event_values(job_id, level, message, data)))

    def events(self, job_id: str, *, after: int = 0) -> list[Event]:
        """The job's events, oldest first.

        Args:
            after: only those of a greater number.
        """
        return self._events(EVENTS.where(EVENT.job_id == job_id, EVENT.number > after).order_by(EVENT.number))

    def newest_numbers(self, job_id: str | None = None) -> tuple[int, int]:
        """The numbers of the newest event and of the newest committed step, of a job or of all; 0 of none."""
        newest: list[int] = []
        with self.database.read() as connection:
            for table in (tables.events, tables.metrics):
                query = select(func.max(table.c.number))
                if job_id is not None:
                    query = query.where(table.c.job_id == job_id)
                newest.append(connection.execute(query).scalar() or 0)
        return newest[0], newest[1]

    def newest_events(self, job_id: str, *, limit: int, before: int | None = None) -> list[int]:
        """The numbers of the newest so many, newest first.

        Args:
            before: only those of a smaller number.
        """
        query = select(EVENT.number).where(EVENT.job_id == job_id).order_by(EVENT.number.desc()).limit(limit)
        if before is not None:
            query = query.where(EVENT.number < before)
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def events_of(self, numbers: Sequence[int]) -> list[Event]:
        """Those with these numbers, oldest first."""
        return self._events(EVENTS.where(EVENT.number.in_(numbers)).order_by(EVENT.number)) if numbers else []

    # --- the step in progress

    def add_pending_rollout(self, job_id: str, phase: str, step: int, key: str, payload: dict[str, Any]) -> None:
        """Keep one graded rollout until its step is committed. Raises ValueError if `key` is already there."""
        self.add_pending_rollouts(job_id, [PendingRollout(phase, step, key, payload)])

    def add_pending_rollouts(self, job_id: str, rollouts: Sequence[PendingRollout]) -> None:
        """As `add_pending_rollout`, for several: all are stored, or none."""
        if not rollouts:
            return
        rows = [{"job_id": job_id, **vars(rollout)} for rollout in rollouts]
        keys = ", ".join(repr(rollout.key) for rollout in rollouts[:JOBS_SHOWN])
        try:
            with self.database.write() as connection:
                connection.execute(insert(tables.pending_rollouts), rows)
        except IntegrityError as error:
            if not _is_duplicate(error):
                raise
            raise ValueError(f"{job_id}: a pending rollout of this step has the same key: {keys}") from error

    def pending_rollouts(self, job_id: str, phase: str, step: int) -> dict[str, dict[str, Any]]:
        """Payloads by key, in the order in which they were added."""
        table = tables.pending_rollouts
        where = (table.c.job_id == job_id, table.c.phase == phase, table.c.step == step)
        with self.database.read() as connection:
            rows = connection.execute(select(table.c.key, table.c.payload).where(*where).order_by(table.c.number))
            return {key: payload for key, payload in rows}

    def commit_step(
        self,
        job_id: str,
        phase: str,
        step: int,
        metrics: dict[str, Any],
        *,
        settled: Sequence[PendingKey] | None = None,
    ) -> None:
        """Finish a step in one transaction: its metrics are kept, its pending rollouts are not.

        Then the metrics are appended to the job's `metrics.jsonl`. Numbers that are not finite are stored as null.

        Args:
            settled: the pending rollouts of the phase that are done with, where these are not all of the step's.

        Raises:
            ValueError: the step was committed before.
        """
        self.commit_steps(job_id, phase, [(step, metrics)], settled=settled)

    def commit_steps(
        self,
        job_id: str,
        phase: str,
        steps: Sequence[tuple[int, dict[str, Any]]],
        *,
        settled: Sequence[PendingKey] | None = None,
    ) -> None:
        """As `commit_step`, for several steps in a row, all or none of them.

        Args:
            steps: their numbers and metrics, in order.
            settled: see `commit_step`.
        """
        kept = [(step, {name: finite(metrics[name]) for name in sorted(metrics)}) for step, metrics in steps]
        if not kept:
            return
        numbers = [step for step, _ in kept]
        pending = tables.pending_rollouts.c
        done = [pending.step.in_(numbers)] if settled is None else _any_of(settled)
        try:
            with self.database.write() as connection:
                rows = [{"job_id": job_id, "phase": phase, "step": step, "values": values} for step, values in kept]
                connection.execute(insert(tables.metrics), rows)
                self._update(connection, job_id, phase=phase, step=numbers[-1])
                for condition in done:
                    of_phase = (pending.job_id == job_id, pending.phase == phase, condition)
                    connection.execute(delete(tables.pending_rollouts).where(*of_phase))
        except IntegrityError as error:
            if not _is_duplicate(error):
                raise
            among = f"step {numbers[0]}" if len(numbers) == 1 else f"one of the steps {numbers[0]} to {numbers[-1]}"
            raise ValueError(f"{job_id}: {among} of '{phase}' was committed before") from error
        for step, values in kept:
            append_line(self.job_folder(job_id) / METRICS_FILE, metrics_line(phase, step, values))

    # --- metrics

    def metrics(self, job_id: str, *, skip: int = 0) -> list[dict[str, Any]]:
        """`{"phase", "step", **metrics}` of every committed step but the first `skip`, in the order of commits."""
        table = tables.metrics
        query = select(table.c.phase, table.c.step, table.c["values"]).where(table.c.job_id == job_id)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(table.c.number).offset(skip))
            return [{"phase": phase, "step": step, **as_mapping(values)} for phase, step, values in rows]

    def rewrite_metrics_file(self, job_id: str) -> None:
        """Make `metrics.jsonl` anew from the database; a killed process may have left it without its last line."""
        lines = [metrics_line(row.pop("phase"), row.pop("step"), row) for row in self.metrics(job_id)]
        replace_file(self.job_folder(job_id) / METRICS_FILE, "".join(lines).encode())

    # --- inside

    def _kept(self, job_id: str, prefix: str) -> dict[int, float]:
        found = self.artifacts.entries(checkpoints_folder(self.job_folder(job_id))).items()
        return {int(name.removeprefix(prefix)): since for name, since in found if name.startswith(prefix)}

    def _events(self, query: Select[Any, Any, Any, Any, Any]) -> list[Event]:
        with self.database.read() as connection:
            return [Event.of(row) for row in connection.execute(query)]

    def _job(self, connection: Connection, job_id: str) -> JobRow:
        row = connection.execute(select(tables.jobs).where(tables.jobs.c.job_id == job_id)).first()
        if row is None:
            rows = connection.execute(select(tables.jobs).order_by(tables.jobs.c.number.desc()).limit(JOBS_SHOWN))
            raise self._no_such_job(job_id, [JobRow.of(row) for row in rows])
        return JobRow.of(row)

    def _change(self, job_id: str, **values: Any) -> None:
        with self.database.write() as connection:
            self._update(connection, job_id, **values)

    def _update(self, connection: Connection, job_id: str, **values: Any) -> None:
        changed = connection.execute(update(tables.jobs).where(tables.jobs.c.job_id == job_id).values(**values))
        if changed.rowcount == 0:
            self._job(connection, job_id)

    def _no_such_job(self, name: str, jobs: Sequence[JobRow]) -> UserError:
        if not jobs:
            return UserError(f"{self.output_dir}: there are no jobs.", "Start one with `agentrft train job.yaml`.")
        newest = ", ".join(f"{job.job_id} ({job.status})" for job in jobs[:JOBS_SHOWN])
        return UserError(
            f"{self.output_dir}: there is no job '{name}'. The newest: {newest}.",
            "Give one of these, the beginning of its id, or `latest`.",
        )


def _any_of(keys: Sequence[PendingKey]) -> list[ColumnElement[bool]]:
    """Conditions that together are met by these pending rollouts, each short enough for any database."""
    by_step: dict[int, list[str]] = {}
    for one in keys:
        by_step.setdefault(one.step, []).append(one.key)
    pending = tables.pending_rollouts.c
    return [
        and_(pending.step == step, pending.key.in_(some))
        for step, of_step in by_step.items()
        for some in (of_step[start : start + KEYS_AT_ONCE] for start in range(0, len(of_step), KEYS_AT_ONCE))
    ]


def _is_duplicate(error: IntegrityError) -> bool:
    return "unique" in str(error.orig).lower()
