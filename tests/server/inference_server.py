"""The inference server on a real socket: in a thread of this process, or as a process."""

import asyncio
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from openai import OpenAI

from agentrft.engine.embedded import EmbeddedEngine
from agentrft.models import resolve_model
from agentrft.models.load import load_model
from agentrft.program import command
from agentrft.server.inference.app import TOKEN_HEADER, WEIGHTS_HEADER, create_app
from agentrft.server.inference.host import HostLimits, ModelHost
from agentrft.server.inference.weights import Weights
from agentrft.server.vllm_places import VllmPlace
from tests.engine.vllm_stand_in import StandIn
from tests.job.tiny_job import TOOL, one_thread
from tests.server.inference_models import CONTEXT_TOKENS, weights
from tests.vllm.server import VllmServer

TOKEN = "a-token-for-tests"
TOOLS = [{"type": "function", "function": TOOL}]
REAL_VLLM = pytest.param("vllm", marks=pytest.mark.vllm)
# Of the sizes that vLLM has kernels for on a CPU, the smallest.
VLLM_HEAD_DIM = 32


@dataclass(frozen=True)
class RunningServer:
    """A server, the tiny model's folder, and what stands for a vLLM server."""

    url: str
    host: ModelHost
    model: Path
    stand_in: StandIn | None = None

    def client(self, name: str = "base", *, token: str = TOKEN) -> OpenAI:
        """OpenAI's client, for the base model or one of the checkpoints."""
        return OpenAI(
            base_url=self.url,
            api_key="unused",
            max_retries=0,
            timeout=60.0,
            default_headers=headers(weights(self.model, name), token),
        )

    def engine(self) -> EmbeddedEngine:
        """The engine of the base model, which is in memory, and of its adapters."""
        return self.host._models._entries[weights(self.model).key].loading.result().served.engine


def headers(wanted: Weights, token: str = TOKEN) -> dict[str, str]:
    return {TOKEN_HEADER: token, WEIGHTS_HEADER: wanted.model_dump_json()}


@contextmanager
def running(model: Path, limits: HostLimits | None = None, *, by_vllm: bool | str = False) -> Iterator[RunningServer]:
    """Serve from a thread with a loop of its own; `by_vllm` has a vLLM server that answers: that at the URL, or a
    stand-in."""
    listening = socket.create_server(("127.0.0.1", 0))
    hosts: list[ModelHost] = []
    servers: list[uvicorn.Server] = []
    stand_ins: list[StandIn] = []
    ready = threading.Event()

    async def serve() -> None:
        if isinstance(by_vllm, str):
            await serve_with({str(model): VllmPlace(by_vllm, "tiny")})
        elif by_vllm:
            network = load_model(resolve_model(str(model)), torch.float32)
            async with StandIn(network, max_model_len=CONTEXT_TOKENS) as stand_in:
                stand_ins.append(stand_in)
                await serve_with({str(model): VllmPlace(stand_in.url, "tiny")})
        else:
            await serve_with({})

    async def serve_with(places: dict[str, VllmPlace]) -> None:
        hosts.append(ModelHost(limits, servers=places, server_seeds=True))
        config = uvicorn.Config(create_app(hosts[0], TOKEN), log_config=None, timeout_graceful_shutdown=2)
        servers.append(uvicorn.Server(config))
        ready.set()
        await servers[0].serve(sockets=[listening])

    with one_thread():
        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            yield RunningServer(url, hosts[0], model, next(iter(stand_ins), None))
        finally:
            servers[0].should_exit = True
            thread.join(30)


@contextmanager
def real_vllm(folder: Path, make: Callable[[Path, int], Path]) -> Iterator[tuple[Path, str]]:
    """The model that `make` writes for a size of heads, and the URL of a real vLLM server of it."""
    with one_thread():
        model = make(folder / "model", VLLM_HEAD_DIM)
    python = Path(os.environ["AGENTRFT_VLLM_PYTHON"]).absolute()
    vllm = VllmServer(python, model, "tiny", folder / "log.txt", context=CONTEXT_TOKENS)
    try:
        yield model, vllm.start().url
    finally:
        vllm.kill()


def running_by(request: pytest.FixtureRequest, model: Path, vllm: str) -> AbstractContextManager[RunningServer]:
    """The server over the engine that the fixture's parameter names: "embedded", "stand-in" or "vllm".

    Args:
        model: what is served, but for a real vLLM server, which has a model of its own.
        vllm: the fixture of that server, from `real_vllm`.
    """
    if request.param == "vllm":
        model, url = request.getfixturevalue(vllm)
        return running(model, by_vllm=url)
    return running(model, by_vllm=request.param == "stand-in")


@contextmanager
def running_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server as a process, and its URL."""
    environment = {**os.environ, "AGENTRFT_INFERENCE_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command("agentrft.server.inference", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"
    finally:
        process.kill()
        process.wait(30)


def ask(client: OpenAI, word: str = "apple", **changes: Any) -> Any:
    """One completion of the tiny model's question, greedy unless said otherwise."""
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"Colour of {word}?"}],
        "temperature": 0,
        **changes,
    }
    return client.chat.completions.create(**asked)
