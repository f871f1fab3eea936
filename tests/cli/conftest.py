"""A tiny trained model, a tool server, and a job of both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job.tiny_job import one_thread, serving, write_job
from tests.traffic.chaos_server import ChaosServer


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def tool_server() -> Iterator[ChaosServer]:
    with serving(ChaosServer()) as server:
        yield server


@pytest.fixture
def job_file(tmp_path: Path, tiny_model: Path, tool_server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny job's file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, tiny_model, tool_server.url, hyperparameters={"max_steps": 2})
    return Path("job.yaml")
