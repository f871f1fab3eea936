"""A job that ran on another machine: its rollouts are fetched when they are looked at, and not all are kept."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from agentrft.dashboard import fetching
from agentrft.dashboard.runs import Runs
from agentrft.dashboard.standalone import own_pages
from agentrft.errors import ArtifactsError
from agentrft.store import JobStore, ObjectStore, SharedArtifacts
from agentrft.store.database import FILE_NAME
from agentrft.store.layout import rollouts_folder
from tests.dashboard.stored_runs import stored_job, until_looked_through
from tests.dashboard.test_pages import rollout_ids
from tests.report.why.planted import Run, honest

STEPS = 4


class Machines:
    """Two machines with one record and one bucket; the job ran on the first."""

    def __init__(self, folder: Path) -> None:
        objects = ObjectStore(f"file://{folder}/bucket", patience_s=0)
        artifacts = {name: SharedArtifacts(folder / name, objects) for name in ("first", "second")}
        self.first = JobStore(folder / "first" / "jobs", artifacts=artifacts["first"])
        self.job_id = stored_job(self.first, Run(honest, steps=STEPS).rolled_out())
        self.files = sorted(rollouts_folder(self.first.job_folder(self.job_id)).glob("*.parquet"))
        for path in self.files:
            artifacts["first"].push(path)
        # A database of both would be a server's.
        (folder / "second" / "jobs").mkdir(parents=True)
        with closing(sqlite3.connect(folder / "first/jobs" / FILE_NAME)) as theirs:
            with closing(sqlite3.connect(folder / "second/jobs" / FILE_NAME)) as ours:
                theirs.backup(ours)
        self.second = JobStore(folder / "second" / "jobs", create=False, artifacts=artifacts["second"])
        self.runs = Runs(self.second)

    @property
    def copies(self) -> list[Path]:
        return sorted(self.second.job_folder(self.job_id).glob("facts/fetched/*"))


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    yield made
    made.runs.close()
    made.first.close()
    made.second.close()


def test_its_rollouts_are_there_on_every_page(machines: Machines) -> None:
    job_id = machines.job_id
    with TestClient(own_pages(machines.runs), base_url="http://localhost") as client:
        assert client.get(f"/jobs/{job_id}/rollouts.json").json()["steps_missing"] == STEPS + 2
        until_looked_through(client, job_id)
        assert client.get(f"/jobs/{job_id}/rollouts.json").json()["total"] == STEPS * 64
        assert client.get(f"/jobs/{job_id}/why.json").json()["groups"] == STEPS * 8
        assert client.get(f"/jobs/{job_id}/compare.json?phase=validation").json()["samples"] == 8
        trace_id = rollout_ids(machines.first, job_id)[3]
        for copy in machines.copies:
            copy.unlink()
        assert client.get(f"/jobs/{job_id}/rollouts/{trace_id}").status_code == 200
        assert [path.name for path in machines.copies] == ["train-00001.parquet"]
        # Facts stay, also without the copies that they were made of.
        assert client.get(f"/jobs/{job_id}/rollouts.json").json()["steps_missing"] == 0
    assert not rollouts_folder(machines.second.job_folder(job_id)).exists()


def test_few_are_fetched_at_once_and_few_copies_kept(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "BATCH_FILES", 2)
    monkeypatch.setattr(fetching, "KEPT_BYTES", 2.5 * max(path.stat().st_size for path in machines.files))
    with TestClient(own_pages(machines.runs), base_url="http://localhost") as client:
        until_looked_through(client, machines.job_id)
        assert client.get(f"/jobs/{machines.job_id}/rollouts.json").json()["total"] == STEPS * 64
    assert len(machines.copies) < STEPS
    assert sum(path.stat().st_size for path in machines.copies) <= fetching.KEPT_BYTES


def test_what_is_here_is_not_asked_for_elsewhere(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines.first.artifacts, "entries", lambda folder: pytest.fail("the bucket was asked"))
    assert len(Runs(machines.first).job(machines.job_id).files) == STEPS + 2


def test_a_bucket_that_does_not_answer_is_named_on_the_page(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = machines.job_id

    def down(*_: object) -> None:
        raise ArtifactsError("the bucket is down.", "Start it.")

    with TestClient(own_pages(machines.runs), base_url="http://localhost") as client:
        monkeypatch.setattr(machines.second.artifacts, "copy", down)
        client.get(f"/jobs/{job_id}/rollouts")
        until(lambda: "the bucket is down" in client.get(f"/jobs/{job_id}/rollouts").text)
        monkeypatch.setattr(machines.second.artifacts, "entries", down)
        other = Runs(machines.second)
        assert other.job(job_id).problem == "the bucket is down." and other.job(job_id).files == []
        other.close()


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(100):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about in time")
