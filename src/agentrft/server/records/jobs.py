"""Jobs as the server knows them: requests, wishes, and whose they are."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from agentrft.server.records.base import RecordsBase
from agentrft.server.records.rows import ServedJob
from agentrft.store import EventLevel, JobStatus
from agentrft.store import tables as t
from agentrft.store.rows import event_values
from agentrft.store.states import ENDED, check_transition

RUNNABLE: tuple[JobStatus, ...] = ("queued", "running", "interrupted")
# Which jobs a wish moves, and where to, once nobody runs them; without a wish they wait to go on.
SETTLED: dict[str | None, tuple[tuple[JobStatus, ...], JobStatus]] = {
    "cancel": (("created", "paused", *RUNNABLE), "cancelled"),
    "pause": (RUNNABLE, "paused"),
    None: (("running", "interrupted"), "queued"),
}
# The SDK's own retries of a create come within seconds.
SAME_REQUEST_S = 900.0


class JobRecords(RecordsBase):
    def create_job(
        self,
        record: dict[str, Any],
        request: dict[str, Any],
        sealed_spec: str,
        *,
        model: str,
        seed: int,
        digest: str,
        idempotency_key: str | None,
        warnings: Sequence[str] = (),
    ) -> str:
        """A new job, with what the server keeps of it and its first events: all of it is stored, or nothing."""
        values = {
            "request": request,
            "sealed_spec": sealed_spec,
            "request_digest": digest,
            "idempotency_key": idempotency_key,
            "priority": request.get("priority", 0),
        }

        def also(connection: Connection, job_id: str) -> None:
            connection.execute(insert(t.served_jobs).values(job_id=job_id, **values))
            events = [event_values(job_id, "info", f"Created fine-tuning job: {job_id}")]
            events += [event_values(job_id, "warning", warning) for warning in warnings]
            connection.execute(insert(t.events), events)

        return self.store.create_job(record, model=model, seed=seed, also=also)

    def ended_since(self, when: float) -> list[str]:
        """Jobs that ended after a time."""
        query = select(t.jobs.c.job_id).join(t.served_jobs).where(t.jobs.c.finished_at >= when)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def job_of_request(self, digest: str, *, idempotency_key: str | None, is_retry: bool) -> tuple[str, bool] | None:
        """The job that a repeated request made before, and whether the request is the same."""
        table = t.served_jobs.c
        with self._database.read() as connection:
            if idempotency_key is not None:
                query = select(table.job_id, table.request_digest).where(table.idempotency_key == idempotency_key)
                row = connection.execute(query).first()
                return None if row is None else (row[0], row[1] == digest)
            if not is_retry:
                return None
            query = (
                select(table.job_id)
                .join(t.jobs, t.jobs.c.job_id == table.job_id)
                .where(table.request_digest == digest, t.jobs.c.created_at > time.time() - SAME_REQUEST_S)
                .order_by(t.jobs.c.number.desc())
            )
            row = connection.execute(query).first()
            return None if row is None else (row[0], True)

    def served(self, job_id: str) -> ServedJob | None:
        return self._one(t.served_jobs, ServedJob, t.served_jobs.c.job_id == job_id)

    def sealed_spec(self, job_id: str) -> str:
        with self._database.read() as connection:
            query = select(t.served_jobs.c.sealed_spec).where(t.served_jobs.c.job_id == job_id)
            return connection.execute(query).scalar_one()

    def wished(self) -> list[str]:
        """Jobs that something is wished for. Asked twice a second, so it reads nothing else of them."""
        query = select(t.served_jobs.c.job_id).where(t.served_jobs.c.wish.is_not(None))
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def wish(self, job_id: str, wish: str | None) -> None:
        """Ask the worker of a job for "pause" or "cancel"; None takes a pause back. A cancel stays."""
        column, where = t.served_jobs.c.wish, t.served_jobs.c.job_id == job_id
        if wish != "cancel":
            where = and_(where, or_(column.is_(None), column != "cancel"))
        self._change(t.served_jobs, where, wish=wish)

    def move(
        self,
        job_id: str,
        old: Sequence[JobStatus],
        new: JobStatus,
        *,
        error: str | None = None,
        event: tuple[EventLevel, str] | None = None,
    ) -> bool:
        """Move a job on if its status is one of `old`; whether it was. Waits for no other transaction in between.

        Args:
            event: level and message of what is told with it.
        """
        with self._database.write() as connection:
            status = _status(connection, job_id)
            if status not in old:
                return False
            check_transition(status, new)
            _set_status(connection, job_id, new, error)
            if event is not None:
                connection.execute(insert(t.events).values(event_values(job_id, *event)))
            return True

    def settle(self, job_id: str, owner: str = "") -> None:
        """What becomes of a job that nobody runs any more: what was wished for, or it waits to go on.

        In one transaction, so that a wish that comes meanwhile is either done here or still there afterwards. The
        lease is let go where it is `owner`'s; to a job that another has nothing happens.
        """
        served = t.served_jobs
        may = and_(served.c.job_id == job_id, or_(_is_free(time.time()), served.c.lease_owner == owner))
        with self._database.write() as connection:
            row = connection.execute(select(served.c.wish).where(may)).first()
            if row is None:
                return
            connection.execute(update(served).where(may).values(wish=None, lease_owner=None, lease_until=None))
            old, new = SETTLED[row.wish]
            if _status(connection, job_id) not in old:
                return
            _set_status(connection, job_id, new)
            if row.wish is not None:
                connection.execute(insert(t.events).values(event_values(job_id, "info", f"The job was {new}")))

    # --- leases

    def waiting(self) -> list[str]:
        """Jobs that could run now: queued ones, and running ones whose worker let its lease go; first those to run
        first."""
        now = time.time()
        lost = and_(t.jobs.c.status.in_(("running", "interrupted")), _is_free(now))
        query = (
            select(t.jobs.c.job_id)
            .join(t.served_jobs, t.served_jobs.c.job_id == t.jobs.c.job_id)
            .where(or_(and_(t.jobs.c.status == "queued", _is_free(now)), lost))
            .order_by(t.served_jobs.c.priority.desc(), t.jobs.c.number)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def acquire(self, job_id: str, owner: str, seconds: float) -> bool:
        """Take a job's lease, if nobody has it and the job is still to run.

        It is queued no more then: who wants it stopped has to ask the worker.
        """
        now = time.time()
        with self._database.write() as connection:
            status = _status(connection, job_id)
            if status not in RUNNABLE:
                return False
            # How long it takes is another matter for another worker.
            values = {"lease_owner": owner, "lease_until": now + seconds, "estimated_finish": None}
            where = and_(t.served_jobs.c.job_id == job_id, or_(_is_free(now), t.served_jobs.c.lease_owner == owner))
            if connection.execute(update(t.served_jobs).where(where).values(**values)).rowcount == 0:
                return False
            if status == "queued":
                _set_status(connection, job_id, "interrupted")
            return True

    def renew(self, job_id: str, owner: str, seconds: float) -> tuple[bool, str | None]:
        """Prolong one's lease. Whether it is still one's own, and what is wished for."""
        with self._database.write() as connection:
            where = and_(t.served_jobs.c.job_id == job_id, t.served_jobs.c.lease_owner == owner)
            changed = connection.execute(
                update(t.served_jobs).where(where).values(lease_until=time.time() + seconds)
            ).rowcount
            wish = connection.execute(select(t.served_jobs.c.wish).where(t.served_jobs.c.job_id == job_id)).scalar()
            return changed == 1, wish

    def held(self, job_id: str, owner: str) -> tuple[bool, str | None]:
        """Whether a lease is one's own, and what is wished for; nothing is written."""
        table = t.served_jobs.c
        with self._database.read() as connection:
            row = connection.execute(select(table.lease_owner, table.wish).where(table.job_id == job_id)).first()
        return (False, None) if row is None else (row.lease_owner == owner, row.wish)

    def release(self, job_id: str, owner: str) -> None:
        where = and_(t.served_jobs.c.job_id == job_id, t.served_jobs.c.lease_owner == owner)
        self._change(t.served_jobs, where, lease_owner=None, lease_until=None)

    def count_crash(self, job_id: str, *, reset: bool = False) -> int:
        """How often a job's worker died since its last committed step, this time included; 0 after a reset."""
        with self._database.write() as connection:
            column, where = t.served_jobs.c.crashes, t.served_jobs.c.job_id == job_id
            connection.execute(update(t.served_jobs).where(where).values(crashes=0 if reset else column + 1))
            return connection.execute(select(column).where(where)).scalar() or 0

    def note_progress(
        self, job_id: str, estimated_finish: float | None, events: Sequence[tuple[str, dict[str, Any]]]
    ) -> None:
        """A step was committed: its worker has not died since, and the job will end at about this time.

        Args:
            events: messages and data of what is told with it.
        """
        told = [event_values(job_id, "info", message, data) for message, data in events]
        values = {"crashes": 0, "estimated_finish": estimated_finish}
        with self._database.write() as connection:
            connection.execute(update(t.served_jobs).where(t.served_jobs.c.job_id == job_id).values(**values))
            if told:
                connection.execute(insert(t.events), told)


def _status(connection: Connection, job_id: str) -> JobStatus:
    return connection.execute(select(t.jobs.c.status).where(t.jobs.c.job_id == job_id)).scalar_one()


def _set_status(connection: Connection, job_id: str, new: JobStatus, error: str | None = None) -> None:
    finished = time.time() if new in ENDED else None
    values = {"status": new, "error": error, "finished_at": finished, "pid": None}
    connection.execute(update(t.jobs).where(t.jobs.c.job_id == job_id).values(**values))


def _is_free(now: float) -> Any:
    return or_(t.served_jobs.c.lease_until.is_(None), t.served_jobs.c.lease_until < now)
