"""vLLM as the engine: token ids in and out, each version's adapter, and a server that breaks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrft.engine.base import EngineFailure
from agentrft.engine.vllm import Client, Server, VllmEngine
from agentrft.errors import EndpointError
from agentrft.job.checkpoint import save_weights
from agentrft.learner import Policy
from tests.engine.sessions import sampling
from tests.engine.vllm_stand_in import StandIn
from tests.tiny_model import padded_logprobs, tiny_model

PROMPT = [5, 6, 7, 8]


def engine_at(
    *urls: str, name: str = "tiny", headers: dict[str, str] | None = None, max_sequences: int = 1, sleeps: bool = False
) -> VllmEngine:
    """Of servers that are there."""
    servers = [Server(Client(url, headers or {}), name) for url in urls]
    return VllmEngine(servers, name, max_sequences=max_sequences, sleeps=sleeps)


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn(tiny_model().plain) as running:
        yield running


@pytest.fixture
async def engine(server: StandIn) -> AsyncIterator[VllmEngine]:
    made = engine_at(server.url, headers={"Authorization": "Bearer k"}, max_sequences=2)
    yield made
    await made.close()


def adapter(folder: Path, seed: int) -> tuple[Path, Policy]:
    """Of the tiny model, one that changes what it says."""
    policy = Policy(tiny_model().planned, lora_rank=4, seed=seed, generates=False)
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in policy.master_state().items()}
    policy.load_master_state(state)
    save_weights(folder, policy)
    return folder / "adapter", policy


async def test_turns_are_sampled_as_ids_with_the_log_probabilities_of_their_temperature(
    engine: VllmEngine, server: StandIn
) -> None:
    session = await engine.open()
    first = await session.generate(PROMPT, sampling(3, max_tokens=5, temperature=0.7))
    second = await session.generate([9, 10], sampling(4, max_tokens=4, temperature=0.7))
    session.close()
    context = [*PROMPT, *first.token_ids, 9, 10]
    assert server.bodies[1]["prompt"] == context
    (row,) = padded_logprobs(tiny_model().plain, [[*context, *second.token_ids]], 0.7)
    for turn, start in ((first, len(PROMPT)), (second, len(context))):
        assert len(turn.token_ids) == len(turn.logprobs) and turn.policy_version == 0
        for place, (token, logprob) in enumerate(zip(turn.token_ids, turn.logprobs, strict=True), start=start):
            assert logprob == pytest.approx(row[place - 1][token].item(), abs=1e-4)
    assert engine.counters["tokens_sampled"] == len(first.token_ids) + len(second.token_ids)
    assert engine.busy_s > 0


async def test_a_turn_ends_at_its_stop_token_which_is_part_of_it(engine: VllmEngine, server: StandIn) -> None:
    session = await engine.open()
    greedy = await session.generate(PROMPT, sampling(max_tokens=6, temperature=0.0))
    assert greedy.finish_reason == "length"
    session.restart()
    again = await session.generate(PROMPT, sampling(max_tokens=6, temperature=0.0, stop_ids=[greedy.token_ids[2]]))
    assert again.token_ids == greedy.token_ids[: greedy.token_ids.index(greedy.token_ids[2]) + 1]
    assert again.finish_reason == "stop" and server.bodies[1]["prompt"] == PROMPT
    assert server.bodies[0]["ignore_eos"] and not server.bodies[0]["add_special_tokens"]


async def test_each_version_samples_with_its_own_adapter_and_says_so(
    engine: VllmEngine, server: StandIn, tmp_path: Path
) -> None:
    said, names = [], []
    for version in (1, 2, 3):
        folder, _ = adapter(tmp_path / str(version), seed=version)
        await engine.use_adapter(folder, version)
        session = await engine.open()
        turn = await session.generate(PROMPT, sampling(max_tokens=6, temperature=0.0))
        session.close()
        assert turn.policy_version == version
        said.append(turn.token_ids)
        names.append(server.bodies[-1]["model"])
        assert list(server.adapters) == [names[-1]], "the one before was unloaded"
    assert len({tuple(one) for one in said}) == 3, "a swap shows in greedy output"
    assert len(set(names)) == 3


async def test_an_answer_of_another_version_is_refused(engine: VllmEngine, server: StandIn, tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path, seed=1)
    await engine.use_adapter(folder, 1)
    server.answers_as = "tiny"
    session = await engine.open()
    with pytest.raises(EngineFailure, match="sampled with 'tiny'") as caught:
        await session.generate(PROMPT, sampling())
    assert caught.value.kind == "policy_version"


async def test_a_session_goes_on_with_a_new_adapter_at_its_next_turn(
    engine: VllmEngine, server: StandIn, tmp_path: Path
) -> None:
    (first, _), (second, _) = adapter(tmp_path / "1", seed=1), adapter(tmp_path / "2", seed=2)
    await engine.use_adapter(first, 1)
    server.pause_s = 0.3
    session, other = await engine.open(), await engine.open()
    turn = asyncio.create_task(session.generate(PROMPT, sampling(max_tokens=6, temperature=0.0)))
    while not server.bodies:
        await asyncio.sleep(0.01)
    changing = asyncio.create_task(engine.use_adapter(second, 2))
    while len(server.adapters) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    # Others need not wait for the turn that is under way, whose adapter stays until it is over.
    beside = asyncio.create_task(other.generate(PROMPT, sampling(max_tokens=6, temperature=0.0)))
    began = await turn
    assert began.policy_version == 1
    await changing
    assert (await beside).policy_version == 2
    went_on = await session.generate([9], sampling(max_tokens=6, temperature=0.0))
    assert (went_on.policy_version, engine.policy_version) == (2, 2)
    names = [body["model"].rpartition("-")[2] for body in server.bodies]
    assert names == ["v1", "v2", "v2"] and [name.rpartition("-")[2] for name in server.adapters] == ["v2"]
    assert server.bodies[-1]["prompt"] == [*PROMPT, *began.token_ids, 9]


async def test_all_weights_are_replaced_between_turns_under_open_sessions(tmp_path: Path) -> None:
    server = StandIn(tiny_model().plain)
    server.is_developed = True
    folder = tmp_path / "model"
    tiny_model(seed=3).plain.save_pretrained(folder)
    async with server:
        engine = engine_at(server.url, max_sequences=3)
        sessions = [await engine.open() for _ in range(3)]
        server.pause_s = 0.3
        turn = asyncio.create_task(sessions[0].generate(PROMPT, sampling(max_tokens=6, temperature=0.0)))
        while not server.bodies:
            await asyncio.sleep(0.01)
        changing = asyncio.create_task(engine.use_weights(folder, 1))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(sessions[1].generate(PROMPT, sampling(max_tokens=6, temperature=0.0)))
        too_late = asyncio.create_task(sessions[2].generate(PROMPT, sampling(deadline_s=0.05)))
        with pytest.raises(EngineFailure, match=r"did not end within 0\.05 s"):
            await too_late
        assert server.asked["reload"] == 0 and len(server.bodies) == 1
        before, after = await turn, await waiting
        await changing
        await engine.close()
    assert (before.policy_version, after.policy_version) == (0, 1)
    for done, seed in ((before, 0), (after, 3)):
        (row,) = padded_logprobs(tiny_model(seed=seed).plain, [[*PROMPT, *done.token_ids]])
        for place, (token, logprob) in enumerate(zip(done.token_ids, done.logprobs, strict=True), start=len(PROMPT)):
            assert logprob == pytest.approx(row[place - 1][token].item(), abs=1e-4)


async def test_what_breaks_on_the_way_is_asked_for_again(engine: VllmEngine, server: StandIn) -> None:
    session = await engine.open()
    whole = await session.generate(PROMPT, sampling(temperature=0.0))
    session.restart()
    server.fails_with = [500, 0, 503, 429]
    again = await session.generate(PROMPT, sampling(temperature=0.0))
    assert again == whole and engine.counters["repeated"] == 4
    assert {tuple(body["prompt"]) for body in server.bodies} == {tuple(PROMPT)}, "nothing was appended twice"


async def test_a_server_that_was_started_anew_is_given_the_adapter_again(
    engine: VllmEngine, server: StandIn, tmp_path: Path
) -> None:
    folder, _ = adapter(tmp_path, seed=1)
    await engine.use_adapter(folder, 1)
    session = await engine.open()
    before = await session.generate(PROMPT, sampling(temperature=0.0))
    await server.stop()
    session.restart()
    coming = asyncio.create_task(session.generate(PROMPT, sampling(temperature=0.0)))
    await asyncio.sleep(0.6)
    assert not coming.done()
    await server.start()
    assert await coming == before
    assert server.asked["load"] == 2


async def test_an_adapter_waits_for_a_server_that_is_away_and_not_for_ever(
    engine: VllmEngine, server: StandIn, tmp_path: Path
) -> None:
    folder, _ = adapter(tmp_path, seed=1)
    await server.stop()
    coming = asyncio.create_task(engine.use_adapter(folder, 1))
    await asyncio.sleep(0.4)
    assert not coming.done()
    await server.start()
    await asyncio.wait_for(coming, 10)
    assert list(server.adapters) and engine.policy_version == 1
    await server.stop()
    engine.away_s = 0.3
    with pytest.raises(EngineFailure, match="no vLLM server answers"):
        await asyncio.wait_for(engine.use_adapter(folder, 2), 10)
    assert engine.policy_version == 1
    await server.start()


async def test_several_turns_that_miss_the_adapter_load_it(engine: VllmEngine, server: StandIn, tmp_path: Path) -> None:
    folder, _ = adapter(tmp_path, seed=1)
    await engine.use_adapter(folder, 1)
    server.adapters.clear()
    sessions = [await engine.open() for _ in range(2)]
    turns = await asyncio.gather(*(session.generate(PROMPT, sampling(temperature=0.0)) for session in sessions))
    assert turns[0] == turns[1]


async def test_a_server_that_stays_away_fails_the_turn_at_its_deadline(engine: VllmEngine, server: StandIn) -> None:
    await server.stop()
    session = await engine.open()
    with pytest.raises(EngineFailure, match=r"did not end within 0\.5 s") as caught:
        await asyncio.wait_for(session.generate(PROMPT, sampling(deadline_s=0.5)), 5)
    assert caught.value.kind == "timeout"


async def test_a_server_that_hangs_fails_the_turn_at_its_deadline(engine: VllmEngine, server: StandIn) -> None:
    server.pause_s = 60.0
    session = await engine.open()
    with pytest.raises(EngineFailure, match="did not end"):
        await asyncio.wait_for(session.generate(PROMPT, sampling(deadline_s=0.3)), 5)


async def test_a_turn_that_is_given_up_is_given_up_at_the_server(engine: VllmEngine, server: StandIn) -> None:
    server.pause_s = 60.0
    session = await engine.open()
    turn = asyncio.create_task(session.generate(PROMPT, sampling()))
    while not server.bodies:
        await asyncio.sleep(0.01)
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    for _ in range(100):
        if server.cancelled:
            break
        await asyncio.sleep(0.02)
    assert server.cancelled == 1


@pytest.mark.parametrize(("status", "kind"), [(400, "refused"), (401, "refused"), (422, "refused")])
async def test_what_the_server_refuses_is_not_asked_again(
    engine: VllmEngine, server: StandIn, status: int, kind: str
) -> None:
    server.fails_with = [status, status]
    session = await engine.open()
    with pytest.raises(EngineFailure, match=f"vLLM answered {status}: .*out of order") as caught:
        await session.generate(PROMPT, sampling())
    assert caught.value.kind == kind and len(server.bodies) == 1


@pytest.mark.parametrize("field", ["token_ids", "logprobs"])
async def test_a_server_that_tells_no_ids_or_log_probabilities_is_no_engine(
    engine: VllmEngine, server: StandIn, field: str
) -> None:
    server.without = {field}
    session = await engine.open()
    with pytest.raises(EngineFailure, match="has no token ids or log-probabilities") as caught:
        await session.generate(PROMPT, sampling())
    assert caught.value.kind == "answer"


async def test_a_context_that_is_too_long_is_told_as_such(server: StandIn) -> None:
    engine = engine_at(server.url, max_sequences=1)
    session = await engine.open()
    with pytest.raises(EngineFailure) as caught:
        await session.generate([1] * 5000, sampling())
    assert caught.value.kind == "context"
    await engine.close()


async def test_no_more_sessions_are_open_than_may_be(engine: VllmEngine) -> None:
    first, _ = [await engine.open() for _ in range(2)]
    third = asyncio.create_task(engine.open())
    await asyncio.sleep(0.05)
    assert not third.done()
    first.close()
    await asyncio.wait_for(third, 5)


async def test_a_closed_engine_opens_nothing_and_leaves_no_adapter(server: StandIn, tmp_path: Path) -> None:
    engine = engine_at(server.url, max_sequences=1)
    folder, _ = adapter(tmp_path, seed=1)
    await engine.use_adapter(folder, 1)
    assert server.adapters
    await engine.close()
    assert not server.adapters
    with pytest.raises(EngineFailure, match="closed"):
        await engine.open()


async def prove(engine: VllmEngine, **changes: Any) -> None:
    await engine.prove(**({"temperature": 1.0, "top_p": 1.0, "context_tokens": 512} | changes))


async def test_a_server_that_fits_is_proven(engine: VllmEngine, server: StandIn) -> None:
    await prove(engine, temperature=0.7)
    server.applies_temperature = False
    await prove(engine, top_p=0.9)


@pytest.mark.parametrize(
    ("applies", "changes", "said"),
    [
        (True, {"top_p": 0.9}, "behind top_p"),
        (False, {"temperature": 0.7}, "log-probabilities of temperature 1, and the job samples at 0.7"),
        (True, {"context_tokens": 9000}, "have 4096 tokens, and the job's 9000"),
    ],
)
async def test_a_server_that_does_not_fit_is_told_with_a_remedy(
    engine: VllmEngine, server: StandIn, applies: bool, changes: dict[str, Any], said: str
) -> None:
    server.applies_temperature = applies
    with pytest.raises(EndpointError, match=said) as caught:
        await prove(engine, **changes)
    assert caught.value.remedy


async def test_another_model_or_no_server_is_told(server: StandIn) -> None:
    other = engine_at(server.url, name="large", max_sequences=1)
    with pytest.raises(EndpointError, match="has no model 'large', but tiny"):
        await prove(other)
    await other.close()
    nobody = engine_at("http://127.0.0.1:9", max_sequences=1)
    with pytest.raises(EndpointError, match="no vLLM server answers") as caught:
        await prove(nobody)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in caught.value.remedy
    await nobody.close()


async def test_neither_headers_nor_what_a_url_has_of_them_are_told(server: StandIn) -> None:
    url = server.url.replace("http://", "http://user:planted-password@")
    engine = engine_at(url, headers={"X-Key": "planted-key"}, max_sequences=1)
    server.fails_with = [401, 401]
    session = await engine.open()
    with pytest.raises(EngineFailure, match="out of order") as refused:
        await session.generate(PROMPT, sampling())
    with pytest.raises(EndpointError, match="no vLLM server answers") as unproven:
        await prove(engine)
    assert "planted" not in f"{refused.value} {unproven.value}"
    await engine.close()


async def test_an_answer_that_is_none_of_vllms_is_no_server_of_it(engine: VllmEngine, server: StandIn) -> None:
    server.without = {"logprobs"}
    with pytest.raises(EndpointError, match="no vLLM server answers"):
        await prove(engine)


async def test_a_server_that_loads_no_adapters_is_told(tmp_path: Path) -> None:
    server = StandIn(tiny_model().plain)
    server.loads_adapters = False
    async with server:
        engine = engine_at(server.url, max_sequences=1)
        folder, _ = adapter(tmp_path, seed=1)
        with pytest.raises(EngineFailure, match="loads no adapters while it runs"):
            await engine.use_adapter(folder, 1)
        with pytest.raises(EngineFailure, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await engine.use_adapter(folder, 1)
        await engine.close()


async def test_an_adapter_that_is_not_there_is_told(engine: VllmEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="No adapter found"):
        await engine.use_adapter(tmp_path / "nothing", 1)
