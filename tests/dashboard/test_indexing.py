"""The process that looks through rollouts: it stays, comes again where it ended, and does not look all the time."""

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrft.dashboard import indexing
from agentrft.dashboard.facts_files import Setting
from agentrft.dashboard.indexing import Indexer, Work
from tests.dashboard.conftest import Planted


@pytest.fixture
def indexer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Indexer]:
    """One without pauses."""
    monkeypatch.setattr(indexing, "PAUSES", 0.0)
    made = Indexer()
    yield made
    made.close()


def work_of(planted: Planted, facts: Path) -> Work:
    store, job_id = planted
    return Work(store.job_folder(job_id), Setting(["search"]), facts, {}, lambda: 0)


def look(indexer: Indexer, work: Work) -> None:
    indexer.want(work)
    thread = indexer._thread
    assert thread is not None
    thread.join(60)


def helper_of(indexer: Indexer) -> psutil.Process:
    assert indexer._helper is not None
    pid = indexer._helper._process.pid
    assert pid is not None
    return psutil.Process(pid)


def test_one_process_looks_again_and_again_and_gives_way(indexer: Indexer, planted: Planted, tmp_path: Path) -> None:
    look(indexer, work_of(planted, tmp_path / "one"))
    first = helper_of(indexer)
    assert first.nice() == min(19, psutil.Process().nice() + indexing.NICE)
    look(indexer, work_of(planted, tmp_path / "two"))
    assert helper_of(indexer) == first
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}
    indexer.close()
    assert not first.is_running()


def test_one_that_was_killed_comes_again(indexer: Indexer, planted: Planted, tmp_path: Path) -> None:
    look(indexer, work_of(planted, tmp_path / "one"))
    first = helper_of(indexer)
    first.kill()
    assert indexer._helper is not None
    indexer._helper._process.join(10)
    look(indexer, work_of(planted, tmp_path / "two"))
    assert (tmp_path / "two").is_dir() and helper_of(indexer) != first


def test_one_that_grew_large_ends_after_its_look(planted: Planted, tmp_path: Path) -> None:
    arguments = (planted[0].job_folder(planted[1]), Setting(["search"]), tmp_path / "zero", {})
    connection, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=helper_without_memory, args=(theirs,))
    process.start()
    connection.send(arguments)
    assert connection.recv() > 0
    process.join(30)
    assert process.exitcode == 0


def helper_without_memory(connection: Any) -> None:
    indexing.MOST_MEMORY_MB = 0
    indexing._help(connection)


def test_a_look_that_fails_is_told_and_not_repeated_at_once(indexer: Indexer, planted: Planted, tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("in the way", encoding="utf-8")
    work = work_of(planted, tmp_path / "no-folder")
    look(indexer, work)
    assert "could not be looked through" in indexer.failure(work.job_folder)
    before = indexer._thread
    indexer.want(work)
    assert indexer._thread is before


def test_after_a_look_comes_a_pause_for_this_job_alone(
    indexer: Indexer, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "PAUSES", 1e6)
    work = work_of(planted, tmp_path / "one")
    look(indexer, work)
    before = indexer._thread
    indexer.want(work)
    assert indexer._thread is before, "thirty seconds have not passed"
    assert time.monotonic() < indexer._not_before[work.job_folder] <= time.monotonic() + indexing.LONGEST_PAUSE_S
    other = Work(tmp_path / "another-job", work.setting, tmp_path / "two", {}, lambda: 0)
    indexer.want(other)
    assert indexer._thread is not before
