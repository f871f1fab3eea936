"""Rollouts through a real vLLM server: its log-probabilities, its adapters, and its death. Run by `make test-vllm`."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrft.engine import Sampling
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.limits import EngineLimits
from agentrft.engine.vllm import Client, LocalHost, Server, ServerProcess, VllmEngine
from agentrft.engine.vllm.process import server_command, server_environment
from agentrft.errors import EndpointError
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.checkpoint import save_weights
from agentrft.learner import Policy
from agentrft.models import resolve_model
from agentrft.models.load import load_model, model_folder
from agentrft.models.planned import use_planned_attention
from agentrft.spec import load_job
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer
from tests.vllm.server import VllmServer

MODEL = "smollm2-135m"
PROMPT = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 30]

pytestmark = [pytest.mark.vllm]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    python = Path(os.environ["AGENTRFT_VLLM_PYTHON"]).absolute()
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    running = VllmServer(python, model_folder(resolve_model(MODEL)), MODEL, log).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def policy() -> Policy:
    model = load_model(resolve_model(MODEL), torch.float32)
    model.requires_grad_(False)
    use_planned_attention(model)
    return Policy(model, lora_rank=16, seed=0)


def changed(policy: Policy, seed: int, folder: Path) -> Path:
    """Another version of the policy, and its adapter."""
    generator = torch.Generator().manual_seed(seed)
    state = policy.master_state()
    policy.load_master_state({name: torch.randn(v.shape, generator=generator) * 0.02 for name, v in state.items()})
    save_weights(folder, policy)
    return folder / "adapter"


def sampling(tokens: int = 12, temperature: float = 1.0) -> Sampling:
    return Sampling(temperature, 1.0, tokens, frozenset(), 0, deadline_s=300.0)


def engine_of(server: VllmServer) -> VllmEngine:
    return VllmEngine([Server(Client(server.url, {}), MODEL)], MODEL, max_sequences=8)


async def test_each_version_says_what_our_own_engine_says_and_log_probabilities_agree(
    server: VllmServer, policy: Policy, tmp_path: Path
) -> None:
    served = engine_of(server)
    own = EmbeddedEngine(policy.engine_forward, EngineLimits(256, max_sequences=8))
    await served.prove(temperature=0.7, top_p=1.0, context_tokens=1024)
    said: list[tuple[int, ...]] = []
    try:
        for version in (1, 2, 3):
            await served.use_adapter(changed(policy, version, tmp_path / str(version)), version)
            await own.update_weights(policy.write_to, version)
            pair = []
            for engine in (served, own):
                session = await engine.open()
                first = await session.generate(PROMPT, sampling(temperature=0.0))
                second = await session.generate([30, 198], sampling(temperature=0.0))
                session.close()
                pair.append((first, second))
            for turn, expected in zip(*pair, strict=True):
                assert turn.token_ids == expected.token_ids and turn.policy_version == version
                assert turn.logprobs == pytest.approx(expected.logprobs, abs=2e-3)
            said.append(tuple(pair[0][0].token_ids))
        assert len(set(said)) == 3, "each swap changed the greedy output"
    finally:
        await served.close()
        await own.close()


async def test_a_server_without_room_is_told(server: VllmServer) -> None:
    served = engine_of(server)
    with pytest.raises(EndpointError, match="have 1024 tokens, and the job's 2048"):
        await served.prove(temperature=1.0, top_p=1.0, context_tokens=2048)
    with pytest.raises(EndpointError, match="behind top_p"):
        await served.prove(temperature=1.0, top_p=0.9, context_tokens=512)
    await served.close()


async def test_a_server_that_is_killed_in_mid_turn_costs_time_alone(
    server: VllmServer, policy: Policy, tmp_path: Path
) -> None:
    served = engine_of(server)
    await served.use_adapter(changed(policy, 7, tmp_path), 7)
    sessions = [await served.open() for _ in range(4)]
    before = await sessions[0].generate(PROMPT, sampling(40, temperature=0.0))
    sessions[0].restart()
    turns = [asyncio.create_task(one.generate(PROMPT, sampling(40, temperature=0.0))) for one in sessions]
    await asyncio.sleep(0.5)
    server.kill()
    again = threading.Thread(target=server.start)
    again.start()
    done = await asyncio.wait_for(asyncio.gather(*turns), 300)
    again.join()
    assert all(turn.token_ids == before.token_ids for turn in done)
    assert served.counters["repeated"] > 0
    await served.close()


def processes_of(group_of: int) -> list[int]:
    """All that a server of ours consists of, the one that computes among them."""
    group = os.getpgid(group_of)
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
    return found


async def test_a_server_of_ours_is_started_anew_when_it_is_killed_or_hangs_in_mid_turn(
    server: VllmServer, policy: Policy, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = server_command(
        server.own_command,
        model=str(model_folder(resolve_model(MODEL))),
        served_as=MODEL,
        port=port,
        context_tokens=512,
        lora_rank=16,
        dtype="float32",
        sleeps=False,
    )
    process = ServerProcess(words, server_environment(lora=True, sleeps=False), tmp_path / "vllm.log")
    told: list[str] = []
    one = Server(
        Client("", {}),
        MODEL,
        host=LocalHost(process, f"http://127.0.0.1:{port}"),
        hang_s=20.0,
        notify=lambda level, text: told.append(text),
    )
    served = VllmEngine([one], MODEL, max_sequences=8)
    try:
        await served.prove(temperature=1.0, top_p=1.0, context_tokens=512)
        await served.use_adapter(changed(policy, 11, tmp_path), 1)
        session = await served.open()
        before = await session.generate(PROMPT, sampling(60, temperature=0.0))
        for number, why in ((signal.SIGKILL, "ended with status"), (signal.SIGSTOP, "has not")):
            session.restart()
            told.clear()
            turn = asyncio.create_task(session.generate(PROMPT, sampling(60, temperature=0.0)))
            await asyncio.sleep(0.5)
            assert process._process is not None
            guard = process._process.pid
            for pid in processes_of(guard):
                # The guard itself goes on: what it guards is what breaks.
                if pid != guard:
                    os.kill(pid, number)
            assert (await asyncio.wait_for(turn, 400)).token_ids == before.token_ids
            assert why in told[0], told
    finally:
        await served.close()
    assert process.how_it_ended() is None and not await _answers(port)


async def _answers(port: int) -> bool:
    client = Client(f"http://127.0.0.1:{port}", {})
    status, _ = await client.request("/health", None, 5.0)
    await client.close()
    return status == 200


async def test_a_job_is_trained_through_it(server: VllmServer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"type": "vllm", "url": server.url}
    async with ChaosServer() as tools:
        path = write_job(
            tmp_path,
            Path(MODEL),
            tools.url,
            engine=settings,
            dtype="float32",
            hyperparameters={"batch_size": 2, "max_steps": 2, "max_tokens_per_turn": 24, "max_context_tokens": 512},
        )
        spec = load_job(path)
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    steps = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert len(steps) == 2
    for row in steps:
        assert row["infra_failure_share"] == 0 and row["rollouts"] == 8
        assert row["logprob_gap_mean"] < 1e-3 and row["logprob_gap_max"] < 0.05


@pytest.mark.xfail(
    strict=True, reason="vLLM's CPU builds compute linear layers from packed copies, which a reload leaves as they were"
)
async def test_all_weights_are_replaced_while_it_runs(server: VllmServer, tmp_path: Path) -> None:
    model = load_model(resolve_model(MODEL), torch.float32)
    model.requires_grad_(False)
    use_planned_attention(model)
    whole = Policy(model, lora_rank=None, seed=0)
    served = engine_of(server)
    own = EmbeddedEngine(whole.engine_forward, EngineLimits(256, max_sequences=2))
    said: list[tuple[int, ...]] = []
    try:
        for version in (1, 2):
            state = whole.master_state()
            generator = torch.Generator().manual_seed(version)
            noisy = {
                name: value * (1 + 0.02 * torch.randn(value.shape, generator=generator))
                for name, value in state.items()
            }
            whole.load_master_state(noisy)
            save_weights(tmp_path / str(version), whole)
            await served.use_weights(tmp_path / str(version) / "model", version)
            await own.update_weights(whole.write_to, version)
            turns = []
            for engine in (served, own):
                session = await engine.open()
                turns.append(await session.generate(PROMPT, sampling(temperature=0.0)))
                session.close()
            assert turns[0].token_ids == turns[1].token_ids
            assert turns[0].logprobs == pytest.approx(turns[1].logprobs, abs=2e-3)
            said.append(tuple(turns[0].token_ids))
        assert said[0] != said[1]
    finally:
        await served.close()
        await own.close()
