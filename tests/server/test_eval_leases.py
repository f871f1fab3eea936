"""Who may work on a run of an eval, and what of it is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrft.server.encryption.sealing import Sealer
from agentrft.server.records import Records
from agentrft.server.records.evals import ItemRow, item_id, item_line
from agentrft.server.settings import Settings
from agentrft.server.workers.queues import MOST_CRASHES, EvalQueue
from agentrft.store import JobStore
from tests.store.databases import database_of


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with JobStore(tmp_path, database=database_of(tmp_path)) as store:
        yield Records(store)


def queued(records: Records, **given: Any) -> str:
    records.add_eval("eval_1", "words", {}, "sealed", {}) if records.made_eval("eval_1") is None else None
    row = records.add_run("eval_1", "run", "", {}, "sealed", {}, **given)
    assert row is not None
    return row.run_id


def status(records: Records, run_id: str) -> str:
    row = records.run(run_id)
    assert row is not None
    return row.status


def test_one_worker_has_a_run_until_it_lets_it_go_and_then_the_next_goes_on(records: Records) -> None:
    first, second = queued(records), queued(records)
    leases = records.eval_leases
    assert leases.waiting() == [first, second]
    assert leases.acquire(first, "one", 60) and status(records, first) == "in_progress"
    assert not leases.acquire(first, "two", 60) and leases.waiting() == [second]
    assert leases.renew(first, "one", 60) == leases.held(first, "one") == (True, None)
    assert leases.held(first, "two") == (False, None)
    leases.release(first, "one")
    assert leases.waiting() == [first, second] and status(records, first) == "in_progress"
    assert leases.acquire(first, "two", -1) and leases.waiting() == [first, second]


@pytest.mark.parametrize("end", ["cancel", "delete the run", "delete the eval"])
def test_a_run_that_is_to_end_takes_nothing_more(records: Records, end: str) -> None:
    run_id = queued(records)
    records.eval_leases.acquire(run_id, "one", 60)
    item = ItemRow(1, "pass", {"a": 1})
    assert records.put_items(run_id, "one", [item])
    assert not records.put_items(run_id, "two", [item])
    if end == "cancel":
        assert records.end_run(run_id, "canceled") and not records.end_run(run_id, "canceled")
    elif end == "delete the run":
        records.delete_run(run_id)
    else:
        assert records.delete_eval("eval_1")
    assert not records.put_items(run_id, "one", [ItemRow(2, "pass", {})])
    assert not records.end_run(run_id, "completed", owner="one")
    assert records.eval_leases.held(run_id, "one")[1] == "cancel"
    assert records.eval_leases.waiting() == [] and not records.eval_leases.acquire(run_id, "two", 60)
    left, _ = records.items_of(run_id, limit=10, oldest_first=True)
    assert left == ([item] if end == "cancel" else [])


def test_an_item_takes_the_place_of_an_earlier_one_of_its_line(records: Records) -> None:
    run_id = queued(records)
    records.eval_leases.acquire(run_id, "one", 60)
    records.put_items(run_id, "one", [ItemRow(line, "error", {}) for line in (1, 2, 3)])
    records.put_items(run_id, "one", [ItemRow(2, "pass", {"again": True})])
    assert records.counts_of([run_id]) == {run_id: {"error": 2, "pass": 1}}
    assert records.item(run_id, 2) == ItemRow(2, "pass", {"again": True})
    assert [one.line for one in records.items_of(run_id, after=1, limit=1, oldest_first=True)[0]] == [2]
    assert item_line(run_id, item_id(run_id, 2)) == 2 and item_line(run_id, item_id("evalrun_other", 2)) is None


def test_a_run_whose_workers_die_again_and_again_fails(records: Records, tmp_path: Path) -> None:
    run_id = queued(records)
    queue = EvalQueue(Settings(tmp_path), records)
    for crash in range(1, MOST_CRASHES + 1):
        # Also those that die before they have the lease.
        if crash > 1:
            records.eval_leases.acquire(run_id, "one", 60)
        queue.after_a_crash(run_id, "one", "signal SIGKILL", False)
        assert (queue.waiting() == [run_id]) == (crash < MOST_CRASHES)
    row = records.run(run_id)
    assert row is not None and row.error is not None and row.error["code"] == "worker_died"


def test_what_evals_keep_secret_is_sealed_again_with_a_new_key(records: Records) -> None:
    old, new = (Sealer(key * 43 + "=") for key in "AB")
    records.add_eval("eval_1", "words", {}, old.seal("secret"), {})
    row = records.add_run("eval_1", "run", "", {}, old.seal("other"), {})
    assert row is not None
    texts = records.sealed()
    assert {kind for kind, _ in texts} == {"eval", "eval_run"}
    records.reseal({key: new.seal(old.open(text)) for key, text in texts.items()})
    assert new.open(records.sealed_eval("eval_1")) == "secret" and new.open(records.sealed_run(row.run_id)) == "other"
