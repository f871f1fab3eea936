"""A finished job, a running one, and pages over them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from agentrft.dashboard.standalone import own_pages, runs_of
from agentrft.store import JobStore
from tests.dashboard.stored_runs import planted_runs, until_looked_through

Planted = tuple[JobStore, str]


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """A finished job whose grader pays for bold text, with all of its facts made."""
    store, job_id = planted_runs(tmp_path_factory.mktemp("runs") / "runs")
    yield store, job_id
    store.close()


@pytest.fixture(scope="session")
def client(planted: Planted) -> Iterator[TestClient]:
    store, job_id = planted
    runs = runs_of(store.output_dir)
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        until_looked_through(client, job_id)
        yield client
    runs.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    JobStore(tmp_path / "runs").close()
    runs = runs_of(tmp_path / "runs")
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        yield client
    runs.close()
