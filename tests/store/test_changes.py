"""A stamp is the same as long as nobody commits, and never the same after somebody did."""

import subprocess
import sys
from pathlib import Path

import pytest

from agentrft.store import JobStore
from tests.server.live import database_of


@pytest.fixture
def store(tmp_path: Path):
    with JobStore(tmp_path, database=database_of(tmp_path)) as opened:
        yield opened


def create(store: JobStore) -> str:
    return store.create_job({}, model="tiny", seed=0)


def test_reading_changes_nothing(store: JobStore):
    job_id = create(store)
    before = store.database.changes.stamp()
    store.get_job(job_id)
    store.events(job_id)
    assert store.database.changes.stamp() == before


def test_every_commit_of_this_process_is_seen(store: JobStore):
    stamps = [store.database.changes.stamp()]
    job_id = create(store)
    stamps.append(store.database.changes.stamp())
    for number in range(3):
        store.add_event(job_id, "info", f"event {number}")
        stamps.append(store.database.changes.stamp())
    assert len(set(map(str, stamps))) == len(stamps)


def test_a_commit_of_another_process_is_seen(store: JobStore, tmp_path: Path):
    job_id = create(store)
    before = store.database.changes.stamp()
    code = (
        "import sys; from pathlib import Path; from agentrft.store import JobStore\n"
        "with JobStore(Path(sys.argv[1]), database=sys.argv[3] or None) as store:\n"
        "    store.add_event(sys.argv[2], 'info', 'from elsewhere')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), job_id, database_of(tmp_path) or ""], check=True)
    assert store.database.changes.stamp() != before


def test_what_was_rolled_back_may_be_seen_but_what_was_committed_after_it_is(store: JobStore):
    job_id = create(store)
    before = store.database.changes.stamp()
    with pytest.raises(RuntimeError), store.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET error = 'x'")
        raise RuntimeError
    store.add_event(job_id, "info", "committed")
    assert store.database.changes.stamp() != before
