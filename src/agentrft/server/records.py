"""What a server keeps beside its jobs: requests, files, uploads, keys, permissions and webhook deliveries.

Every method is one short transaction, on disk when it returns.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, delete, func, insert, or_, select, update

from agentrft.server.job_lists import JobLists
from agentrft.server.rows import FileRow, KeyRow, PermissionRow, ServedJob, UploadRow
from agentrft.store import EventLevel, JobStatus, JobStore
from agentrft.store import tables as t
from agentrft.store.jobs import event_values
from agentrft.store.states import check_transition

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
KEY_PREFIX = "sk-agentrft-"
ENDED: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")
RUNNABLE: tuple[JobStatus, ...] = ("queued", "running", "interrupted")
# Which jobs a wish moves, and where to, once nobody runs them; without a wish they wait to go on.
SETTLED: dict[str | None, tuple[tuple[JobStatus, ...], JobStatus]] = {
    "cancel": (("created", "paused", *RUNNABLE), "cancelled"),
    "pause": (RUNNABLE, "paused"),
    None: (("running", "interrupted"), "queued"),
}
# The SDK's own retries of a create come within seconds.
SAME_REQUEST_S = 900.0


def new_id(prefix: str, length: int = 24) -> str:
    return prefix + "".join(secrets.choice(CHARACTERS) for _ in range(length))


class Records:
    """The server's tables in a store's database."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.lists = JobLists(store.database)
        self._database = store.database

    # --- jobs

    def create_job(
        self, record: dict[str, Any], request: dict[str, Any], sealed_spec: str, *, model: str, seed: int, digest: str,
        idempotency_key: str | None,
    ) -> str:  # fmt: skip
        """A new job, with what the server keeps of it; both or neither are stored."""
        values = {
            "request": request, "sealed_spec": sealed_spec, "request_digest": digest,
            "idempotency_key": idempotency_key, "priority": request.get("priority", 0),
        }  # fmt: skip

        def also(connection: Connection, job_id: str) -> None:
            connection.execute(insert(t.served_jobs).values(job_id=job_id, **values))

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

    def reseal(self, sealed: dict[str, str]) -> None:
        """Replace the sealed specs of these jobs at once."""
        with self._database.write() as connection:
            for job_id, text in sealed.items():
                where = t.served_jobs.c.job_id == job_id
                connection.execute(update(t.served_jobs).where(where).values(sealed_spec=text))

    def move(
        self, job_id: str, old: Sequence[JobStatus], new: JobStatus, *, error: str | None = None,
        event: tuple[EventLevel, str] | None = None,
    ) -> bool:  # fmt: skip
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

    def release(self, job_id: str, owner: str) -> None:
        where = and_(t.served_jobs.c.job_id == job_id, t.served_jobs.c.lease_owner == owner)
        self._change(t.served_jobs, where, lease_owner=None, lease_until=None)

    def count_crash(self, job_id: str, *, reset: bool = False) -> int:
        """How often a job's worker died since its last committed step, this time included; 0 after a reset."""
        with self._database.write() as connection:
            column, where = t.served_jobs.c.crashes, t.served_jobs.c.job_id == job_id
            connection.execute(update(t.served_jobs).where(where).values(crashes=0 if reset else column + 1))
            return connection.execute(select(column).where(where)).scalar() or 0

    def note_progress(self, job_id: str, estimated_finish: float | None) -> None:
        """A step was committed: its worker has not died since, and the job will end at about this time."""
        where = t.served_jobs.c.job_id == job_id
        self._change(t.served_jobs, where, crashes=0, estimated_finish=estimated_finish)

    # --- files

    def add_file(self, file_id: str, filename: str, purpose: str, size: int, expires_at: float | None) -> FileRow:
        row = FileRow(file_id, filename, purpose, size, time.time(), expires_at, "uploaded", None)
        self._insert(t.files, vars(row))
        return row

    def file(self, file_id: str) -> FileRow | None:
        return self._one(t.files, FileRow, t.files.c.file_id == file_id)

    def files(self) -> list[FileRow]:
        """Newest first."""
        return self._all(t.files, FileRow)

    def set_file_status(self, file_id: str, status: str, details: str | None = None) -> None:
        self._change(t.files, t.files.c.file_id == file_id, status=status, status_details=details)

    def delete_file(self, file_id: str) -> None:
        self._delete(t.files, t.files.c.file_id == file_id)

    def expired_files(self, before: float) -> list[str]:
        """Those that expired before a time."""
        query = select(t.files.c.file_id).where(t.files.c.expires_at < before)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    # --- uploads

    def add_upload(self, filename: str, purpose: str, size: int, seconds: float) -> UploadRow:
        now = time.time()
        row = UploadRow(new_id("upload_"), filename, purpose, size, now, now + seconds, "pending", None)
        self._insert(t.uploads, vars(row))
        return row

    def upload(self, upload_id: str) -> UploadRow | None:
        return self._one(t.uploads, UploadRow, t.uploads.c.upload_id == upload_id)

    def end_upload(self, upload_id: str, status: str, file_id: str | None = None) -> bool:
        """Whether it was still pending."""
        with self._database.write() as connection:
            where = and_(t.uploads.c.upload_id == upload_id, t.uploads.c.status == "pending")
            values = {"status": status, "file_id": file_id}
            return connection.execute(update(t.uploads).where(where).values(**values)).rowcount == 1

    def add_part(self, part_id: str, upload_id: str, size: int) -> float:
        """When it came."""
        now = time.time()
        self._insert(t.upload_parts, {"part_id": part_id, "upload_id": upload_id, "bytes": size, "created_at": now})
        return now

    def parts(self, upload_id: str) -> dict[str, int]:
        """Sizes in bytes, by id."""
        query = select(t.upload_parts.c.part_id, t.upload_parts.c.bytes).where(t.upload_parts.c.upload_id == upload_id)
        with self._database.read() as connection:
            return {part_id: size for part_id, size in connection.execute(query)}

    def expired_uploads(self, before: float) -> list[str]:
        """Those whose time was over before a time, whatever became of them."""
        query = select(t.uploads.c.upload_id).where(t.uploads.c.expires_at < before)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def delete_upload(self, upload_id: str) -> None:
        """With what is known of its parts."""
        with self._database.write() as connection:
            connection.execute(delete(t.upload_parts).where(t.upload_parts.c.upload_id == upload_id))
            connection.execute(delete(t.uploads).where(t.uploads.c.upload_id == upload_id))

    def pending_parts(self) -> list[str]:
        """Parts of uploads that have not ended."""
        query = select(t.upload_parts.c.part_id).join(t.uploads, t.uploads.c.upload_id == t.upload_parts.c.upload_id)
        with self._database.read() as connection:
            return list(connection.execute(query.where(t.uploads.c.status == "pending")).scalars())

    # --- keys

    def create_key(self, name: str) -> tuple[KeyRow, str]:
        """A new key; the second value is shown once and stored nowhere."""
        key = new_id(KEY_PREFIX, 40)
        row = KeyRow(new_id("key_", 12), name, time.time(), None)
        self._insert(t.api_keys, {**vars(row), "digest": _digest(key)})
        return row, key

    def keys(self) -> list[KeyRow]:
        return self._all(t.api_keys, KeyRow)

    def revoke_key(self, key_id: str) -> bool:
        where = and_(t.api_keys.c.key_id == key_id, t.api_keys.c.revoked_at.is_(None))
        return self._change(t.api_keys, where, revoked_at=time.time()) == 1

    def is_valid_key(self, key: str) -> bool:
        where = and_(t.api_keys.c.digest == _digest(key), t.api_keys.c.revoked_at.is_(None))
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(t.api_keys).where(where)).scalar_one() == 1

    def has_keys(self) -> bool:
        return any(key.revoked_at is None for key in self.keys())

    # --- permissions

    def add_permission(self, checkpoint: str, project_id: str) -> PermissionRow:
        """A new one, or the one that is there."""
        where = and_(t.permissions.c.checkpoint == checkpoint, t.permissions.c.project_id == project_id)
        found = self._one(t.permissions, PermissionRow, where)
        if found is None:
            found = PermissionRow(new_id("cp_"), checkpoint, project_id, time.time())
            self._insert(t.permissions, vars(found))
        return found

    def permissions(self, checkpoint: str) -> list[PermissionRow]:
        """Newest first."""
        return self._all(t.permissions, PermissionRow, t.permissions.c.checkpoint == checkpoint)

    def delete_permission(self, checkpoint: str, permission_id: str) -> bool:
        where = and_(t.permissions.c.checkpoint == checkpoint, t.permissions.c.permission_id == permission_id)
        return self._delete(t.permissions, where) == 1

    # --- webhooks

    def add_delivery(self, event_id: str, url: str, body: str) -> bool:
        """Whether it is new; an event is delivered once to a URL however often it is added."""
        with self._database.write() as connection:
            known = connection.execute(
                select(func.count()).select_from(t.deliveries).where(t.deliveries.c.event_id == event_id)
            ).scalar_one()
            if known:
                return False
            connection.execute(
                insert(t.deliveries).values(event_id=event_id, url=url, body=body, attempts=0, due_at=time.time())
            )
            return True

    def due_deliveries(self) -> list[dict[str, Any]]:
        table = t.deliveries.c
        query = select(t.deliveries).where(table.delivered_at.is_(None), table.due_at <= time.time())
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query.order_by(table.number))]

    def note_delivery(self, event_id: str, *, error: str | None, due_at: float | None) -> None:
        """An attempt: done where `due_at` is None."""
        table = t.deliveries.c
        values: dict[str, Any] = {"attempts": table.attempts + 1, "error": error}
        values |= {"delivered_at": time.time()} if due_at is None else {"due_at": due_at}
        self._change(t.deliveries, table.event_id == event_id, **values)

    # --- inside

    def _insert(self, table: Table, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(insert(table).values(**values))

    def _change(self, table: Table, where: Any, **values: Any) -> int:
        with self._database.write() as connection:
            return connection.execute(update(table).where(where).values(**values)).rowcount

    def _delete(self, table: Table, where: Any) -> int:
        with self._database.write() as connection:
            return connection.execute(delete(table).where(where)).rowcount

    def _one(self, table: Table, kind: Any, where: Any) -> Any:
        with self._database.read() as connection:
            return next(iter(_rows(connection, _columns(table, kind).where(where), kind)), None)

    def _all(self, table: Table, kind: Any, where: Any = True) -> list[Any]:
        order = table.c.number.desc() if "number" in table.c else table.c.job_id
        query = _columns(table, kind) if where is True else _columns(table, kind).where(where)
        with self._database.read() as connection:
            return _rows(connection, query.order_by(order), kind)


def _columns(table: Table, kind: Any) -> Select[Any]:
    return select(*(table.c[field.name] for field in fields(kind)))


def _rows(connection: Connection, query: Select[Any], kind: Any) -> list[Any]:
    names = [field.name for field in fields(kind)]
    return [kind(**{name: row._mapping[name] for name in names}) for row in connection.execute(query)]


def _status(connection: Connection, job_id: str) -> JobStatus:
    return connection.execute(select(t.jobs.c.status).where(t.jobs.c.job_id == job_id)).scalar_one()


def _set_status(connection: Connection, job_id: str, new: JobStatus, error: str | None = None) -> None:
    finished = time.time() if new in ("succeeded", "failed", "cancelled") else None
    values = {"status": new, "error": error, "finished_at": finished, "pid": None}
    connection.execute(update(t.jobs).where(t.jobs.c.job_id == job_id).values(**values))


def _is_free(now: float) -> Any:
    return or_(t.served_jobs.c.lease_until.is_(None), t.served_jobs.c.lease_until < now)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
