"""One server for the tests that do not disturb it."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.job.thinking_model import make_thinking_model
from tests.job.tiny_job import make_model, serving
from tests.server.inference_server import real_vllm
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
def tiny_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A tiny model and the URL of a real vLLM server of it."""
    with real_vllm(tmp_path_factory.mktemp("vllm"), functools.partial(make_model, updates=80)) as served:
        yield served


@pytest.fixture(scope="session")
def thinking_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A tiny model that thinks and the URL of a real vLLM server of it."""
    with real_vllm(tmp_path_factory.mktemp("thinking-vllm"), make_thinking_model) as served:
        yield served


@pytest.fixture(scope="session")
def client(server: Live) -> OpenAI:
    return server.client()


@pytest.fixture(scope="session")
def files(client: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return upload(client, tmp_path_factory.mktemp("rows"))
