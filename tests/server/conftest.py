"""One server for the tests that do not disturb it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.job.tiny_job import serving
from tests.server.live import Live, live, upload
from tests.traffic.chaos_server import ChaosServer


@pytest.fixture(scope="session")
def tools() -> Iterator[ChaosServer]:
    with serving(ChaosServer()) as server:
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server") / "data", tiny_model, "--max-running-jobs", "2") as started:
        yield started


@pytest.fixture(scope="session")
def client(server: Live) -> OpenAI:
    return server.client()


@pytest.fixture(scope="session")
def files(client: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return upload(client, tmp_path_factory.mktemp("rows"))
