"""The tiny model, trained once, and a process from which whole jobs are forked and killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job import backend
from tests.job.ended import Ended, ended
from tests.job.fork_server import ForkServer
from tests.job.tiny_job import one_thread, serving, write_job
from tests.traffic.chaos_server import ChaosServer


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session", autouse=True)
def rollouts_run_elsewhere() -> Iterator[None]:
    with backend.chosen():
        yield


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture(scope="session")
def uninterrupted(tiny_model: Path, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A deterministic job that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with serving(ChaosServer()) as server:
        job_file = write_job(folder, tiny_model, server.url, deterministic=True)
        assert fork_server.run(job_file) == 0, (folder / "log.txt").read_text()
    return ended(folder / "runs")
