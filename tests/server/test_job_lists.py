"""Lists of jobs: pages, filters, and that no query reads more than its list needs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from agentrft.server.records import Records, job_lists
from agentrft.server.records.job_lists import JobLists
from agentrft.store import JobStore
from tests.server.live import database_of


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    database = database_of(tmp_path) if os.environ.get("AGENTRFT_TEST_DATABASE") else None
    with JobStore(tmp_path, database=database) as store:
        yield Records(store)


def created(records: Records, metadata: dict[str, str] | None = None, **spec: Any) -> str:
    request = {"model": "tiny", "suffix": None, "metadata": metadata}
    job = {"training_file": "/files/a", "validation_file": None, "warm_start": None, **spec}
    return records.create_job({"job": job}, request, "sealed", model="weights", seed=0, digest="", idempotency_key=None)


def test_jobs_come_in_pages_newest_first_or_oldest_first(records: Records) -> None:
    ids = [created(records) for _ in range(5)]
    records.store.create_job({}, model="m", seed=0)  # no job of the server
    newest = ids[::-1]
    assert records.lists.page(after=None, limit=2) == (newest[:2], True)
    assert records.lists.page(after=newest[1], limit=2) == (newest[2:4], True)
    assert records.lists.page(after=newest[3], limit=2) == (newest[4:], False)
    assert records.lists.page(after=ids[0], limit=3, oldest_first=True) == (ids[1:4], True)
    assert records.lists.page(after="ftjob-none", limit=2) == ([], False)


def test_jobs_are_chosen_by_metadata_whatever_its_keys(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_lists, "CHUNK", 2)
    key = 'a."quoted" [key]'
    ids = [created(records, {key: str(n % 2)} if n < 6 else None) for n in range(8)]
    odd = [ids[5], ids[3], ids[1]]
    assert records.lists.page(after=None, limit=2, metadata={key: "1"}) == (odd[:2], True)
    assert records.lists.page(after=odd[1], limit=2, metadata={key: "1"}) == (odd[2:], False)
    assert records.lists.page(after=None, limit=9, metadata={key: "1", "other": "x"}) == ([], False)
    assert records.lists.page(after=None, limit=9, metadata="none") == ([ids[7], ids[6]], False)


@pytest.mark.parametrize(
    "spec", [{}, {"validation_file": "/files/b"}, {"warm_start": {"training_file": "/files/b", "n_epochs": 1}}]
)
def test_a_file_is_in_use_while_a_job_that_reads_it_has_not_ended(records: Records, spec: dict[str, Any]) -> None:
    job_id = created(records, **spec)
    assert records.lists.users_of_files() == dict.fromkeys(["a", "b"] if spec else ["a"], job_id)
    records.move(job_id, ("created",), "cancelled")
    assert records.lists.users_of_files() == {}


def test_no_list_reads_sealed_specs(records: Records) -> None:
    job_id = created(records)
    said: list[str] = []
    lists: JobLists = records.lists
    engine = records.store.database._engine
    event.listen(engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    lists.page(after=None, limit=1)
    lists.page(after=job_id, limit=1, metadata={"a": "b"})
    lists.users_of_files()
    lists.in_status("created")
    assert lists.counts() == {"created": 1} and lists.steps_of_running() == {}
    assert [one.base for one in lists.tuned()] == ["tiny"] and lists.tuned_by("ftjob-none") is None
    records.served(job_id)
    assert len(said) > 7 and not any("sealed_spec" in statement for statement in said)
