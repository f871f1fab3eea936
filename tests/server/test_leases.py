"""Who may run a job, and what becomes of it afterwards, whatever is wished for meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrft.server.records import Records
from agentrft.store import JobStore


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with JobStore(tmp_path) as store:
        yield Records(store)


def queued(records: Records) -> str:
    job_id = records.create_job({}, {}, "", model="tiny", seed=0, digest="", idempotency_key=None)
    records.move(job_id, ("created",), "queued")
    return job_id


def running(records: Records, owner: str) -> str:
    job_id = queued(records)
    assert records.acquire(job_id, owner, 60)
    records.store.set_status(job_id, "running")
    return job_id


def status(records: Records, job_id: str) -> str:
    return records.store.get_job(job_id).status


def wished(records: Records, job_id: str) -> str | None:
    served = records.served(job_id)
    assert served is not None
    return served.wish


@pytest.mark.parametrize("ended", ["paused", "cancelled"])
def test_a_job_that_was_paused_or_cancelled_while_its_worker_started_is_not_run(records: Records, ended: str) -> None:
    job_id = queued(records)
    records.move(job_id, ("queued",), ended)  # type: ignore[arg-type]
    assert not records.acquire(job_id, "late", 60)


def test_a_job_that_a_worker_has_is_not_paused_past_it(records: Records) -> None:
    job_id = queued(records)
    records.acquire(job_id, "one", 60)
    assert not records.move(job_id, ("queued",), "paused")
    assert records.waiting() == []


@pytest.mark.parametrize(("wish", "becomes"), [(None, "queued"), ("pause", "paused"), ("cancel", "cancelled")])
def test_a_job_that_was_stopped_becomes_what_was_wished_for_last(
    records: Records, wish: str | None, becomes: str
) -> None:
    job_id = running(records, "one")
    records.wish(job_id, "pause")
    records.wish(job_id, wish)
    records.settle(job_id, "one")
    assert status(records, job_id) == becomes and wished(records, job_id) is None
    assert records.acquire(job_id, "two", 60) == (becomes == "queued")


def test_a_cancel_is_not_taken_back_by_a_pause_or_a_resume(records: Records) -> None:
    job_id = running(records, "one")
    records.wish(job_id, "cancel")
    records.wish(job_id, "pause")
    records.wish(job_id, None)
    assert wished(records, job_id) == "cancel"


def test_a_job_is_settled_only_by_who_has_it_or_if_nobody_has(records: Records) -> None:
    job_id = running(records, "one")
    records.wish(job_id, "cancel")
    records.settle(job_id)
    records.settle(job_id, "two")
    assert status(records, job_id) == "running" and wished(records, job_id) == "cancel"
    records.release(job_id, "one")
    records.settle(job_id)
    assert status(records, job_id) == "cancelled"
    assert [event.message for event in records.store.events(job_id)] == [
        f"Created fine-tuning job: {job_id}",
        "The job was cancelled",
    ]


def test_a_paused_job_stays_paused_when_nothing_is_wished(records: Records) -> None:
    job_id = running(records, "one")
    records.store.set_status(job_id, "paused")
    records.settle(job_id, "one")
    assert status(records, job_id) == "paused"


def test_looking_whether_a_lease_is_held_tells_of_wishes_and_other_owners_and_writes_nothing(records: Records) -> None:
    job_id = running(records, "one")
    before = records.store.database.changes.stamp()
    assert records.held(job_id, "one") == (True, None)
    assert records.held(job_id, "two") == (False, None)
    assert records.held("ftjob-none", "one") == (False, None)
    assert records.store.database.changes.stamp() == before
    records.wish(job_id, "cancel")
    assert records.held(job_id, "one") == (True, "cancel")
    records.release(job_id, "one")
    assert records.held(job_id, "one") == (False, "cancel")
