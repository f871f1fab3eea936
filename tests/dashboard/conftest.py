"""A finished job, a running one, and pages over them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, sync_playwright

from agentrft.dashboard.standalone import own_pages, runs_of
from agentrft.store import JobStore
from tests.dashboard.browsing import CHROMIUM
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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", "--disable-background-networking", *(["--no-sandbox"] if os.getuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()
