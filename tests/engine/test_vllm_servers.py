"""Several vLLM servers for one job, weights that are replaced whole, and servers that sleep."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentrft.engine.base import EngineFailure
from agentrft.engine.vllm import Client, Server, VllmEngine
from agentrft.errors import EndpointError
from agentrft.job.checkpoint import save_weights
from agentrft.learner import Policy
from tests.engine.sessions import sampling
from tests.engine.test_vllm import PROMPT, adapter, engine_at
from tests.engine.vllm_stand_in import StandIn
from tests.tiny_model import padded_logprobs, tiny_model


@pytest.fixture
async def developed() -> AsyncIterator[StandIn]:
    """A server whose weights may be replaced, and that may sleep."""
    server = StandIn(tiny_model().plain)
    server.is_developed = True
    async with server:
        yield server


def weights(folder: Path, change: float) -> tuple[Path, Policy]:
    """All of a tiny model's, each changed by as much."""
    policy = Policy(tiny_model().planned, lora_rank=None, seed=0, generates=False)
    policy.load_master_state({name: value * change for name, value in policy.master_state().items()})
    save_weights(folder, policy)
    return folder / "model", policy


async def test_rollouts_are_dealt_out_and_stay_with_their_server(tmp_path: Path) -> None:
    model = tiny_model()
    async with StandIn(model.plain) as first, StandIn(tiny_model().plain) as second:
        engine = engine_at(first.url, second.url, max_sequences=8)
        folder, _ = adapter(tmp_path, seed=1)
        await engine.use_adapter(folder, 1)
        assert first.adapters.keys() == second.adapters.keys() != set()
        sessions = [await engine.open() for _ in range(6)]
        for turn in range(3):
            await asyncio.gather(*(one.generate([number, turn + 4], sampling()) for number, one in enumerate(sessions)))
        assert len(first.bodies) == len(second.bodies) == 9
        beginnings = [{body["prompt"][0] for body in server.bodies} for server in (first, second)]
        assert all(len(one) == 3 for one in beginnings) and not beginnings[0] & beginnings[1]
        sessions[0].close()
        (await engine.open()).close()
        assert engine.counters["requests"] == 18
        await engine.use_adapter(folder, 2)
        turns = await asyncio.gather(*(one.generate([9], sampling()) for one in sessions[1:]))
        assert {turn.policy_version for turn in turns} == {2}
        for session in sessions[1:]:
            session.close()
        await engine.close()
        assert not first.adapters and not second.adapters


async def test_one_of_several_that_does_not_fit_is_named() -> None:
    async with StandIn(tiny_model().plain) as first, StandIn(tiny_model().plain, max_model_len=64) as second:
        engine = engine_at(first.url, second.url)
        with pytest.raises(EndpointError, match=f"{second.url} have 64 tokens"):
            await engine.prove(temperature=1.0, top_p=1.0, context_tokens=512)
        await engine.close()


async def test_each_version_samples_with_weights_of_its_own(developed: StandIn, tmp_path: Path) -> None:
    engine = engine_at(developed.url)
    said = []
    for version, change in ((1, 1.2), (2, 0.7)):
        folder, _ = weights(tmp_path / str(version), change)
        await engine.use_weights(folder, version)
        session = await engine.open()
        turn = await session.generate(PROMPT, sampling(max_tokens=6))
        session.close()
        (row,) = padded_logprobs(developed._model, [[*PROMPT, *turn.token_ids]], 1.0)
        assert turn.logprobs[0] == pytest.approx(row[len(PROMPT) - 1][turn.token_ids[0]].item(), abs=1e-4)
        assert turn.policy_version == version
        said.append(turn.logprobs[0])
    assert said[0] != said[1]
    assert developed.asked["reload"] == 3, "once more where the cache was not dropped at first"
    await engine.use_weights(folder, 2)
    assert developed.asked["reload"] == 3, "what it has is not loaded again"
    await engine.close()


async def test_a_server_that_was_started_anew_is_given_its_weights_again(developed: StandIn, tmp_path: Path) -> None:
    engine = engine_at(developed.url)
    folder, _ = weights(tmp_path, 1.5)
    await engine.use_weights(folder, 1)
    session = await engine.open()
    before = await session.generate(PROMPT, sampling(temperature=0.0))
    loads = developed.asked["reload"]
    # Between two turns, so that no request fails and nothing else tells.
    await developed.stop()
    await developed.start()
    session.restart()
    again = await session.generate(PROMPT, sampling(temperature=0.0))
    assert again == before, "what its first weights said is not taken for ours"
    assert developed.asked["reload"] == loads + 1 and engine.counters["repeated"] == 1
    session.close()
    await engine.close()


async def test_a_server_whose_weights_cannot_be_replaced_is_told_how_to_start(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as server:
        engine = engine_at(server.url)
        folder, _ = weights(tmp_path, 1.5)
        with pytest.raises(EngineFailure, match="VLLM_SERVER_DEV_MODE=1"):
            await engine.use_weights(folder, 1)
        await engine.close()


async def test_weights_that_are_not_there_are_told(developed: StandIn, tmp_path: Path) -> None:
    engine = engine_at(developed.url)
    with pytest.raises(EngineFailure, match="vLLM does not read"):
        await engine.use_weights(tmp_path / "nothing", 1)
    await engine.close()


async def test_servers_sleep_between_rollouts_and_wake_for_the_next_turn(developed: StandIn, tmp_path: Path) -> None:
    engine = engine_at(developed.url, sleeps=True)
    await engine.prove(temperature=1.0, top_p=1.0, context_tokens=512)
    session = await engine.open()
    with pytest.raises(EngineFailure, match="before the servers sleep"):
        await engine.release_memory()
    session.close()
    await engine.release_memory()
    await engine.release_memory()
    assert developed.asleep and developed.asked["sleep"] == 1
    session = await engine.open()
    await asyncio.gather(*(session.generate([4], sampling()) for _ in range(3)))
    assert not developed.asleep and developed.asked["wake"] == 1
    session.close()
    await engine.release_memory()
    folder, _ = adapter(tmp_path, seed=1)
    await engine.use_adapter(folder, 1)
    assert not developed.asleep, "it is awake when it loads"
    await engine.close()


async def test_a_server_that_cannot_sleep_is_told_before_the_first_rollout(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as server:
        engine = engine_at(server.url, sleeps=True)
        with pytest.raises(EndpointError, match="engine.sleep") as told:
            await engine.prove(temperature=1.0, top_p=1.0, context_tokens=512)
        assert "--enable-sleep-mode" in told.value.remedy
        await engine.close()


async def test_a_new_adapter_waits_for_no_turn_that_is_under_way(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as server:
        engine = engine_at(server.url, max_sequences=2)
        folders = [adapter(tmp_path / str(version), seed=version)[0] for version in (1, 2, 3)]
        await engine.use_adapter(folders[0], 1)
        server.pause_s = 0.5
        session, other = await engine.open(), await engine.open()
        turn = asyncio.create_task(session.generate(PROMPT, sampling(max_tokens=6)))
        while not server.bodies:
            await asyncio.sleep(0.01)
        await engine.use_adapter(folders[1], 2)
        assert not turn.done() and len(server.adapters) == 2 and engine.policy_version == 2
        # No third one comes beside two that have turns.
        await engine.use_adapter(folders[2], 3)
        assert turn.done() and len(server.adapters) == 1
        assert (await turn).policy_version == 1
        assert (await other.generate(PROMPT, sampling(max_tokens=6))).policy_version == 3
        await engine.close()
        assert not server.adapters


async def test_turns_of_a_server_that_is_lost_go_on_at_another(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as first, StandIn(tiny_model().plain) as second:
        engine = engine_at(first.url, second.url, max_sequences=4)
        folder, _ = adapter(tmp_path, seed=1)
        await engine.use_adapter(folder, 1)
        greedy = sampling(max_tokens=6, temperature=0.0)
        session, moved = await engine.open(), await engine.open()
        before = await moved.generate(PROMPT, greedy)
        second.pause_s = 600.0
        turn = asyncio.create_task(moved.generate([5], greedy))
        while len(second.bodies) < 2:
            await asyncio.sleep(0.01)
        await second.stop()
        assert (await turn).policy_version == 1
        assert first.bodies[-1]["prompt"] == [*PROMPT, *before.token_ids, 5], "its context goes with it"
        assert engine.counters["moved"] == 1
        # Whoever comes meanwhile is not sent to a server that is not there.
        new = [await engine.open() for _ in range(2)]
        asked = len(second.bodies)
        await asyncio.gather(*(one.generate(PROMPT, greedy) for one in new))
        assert len(second.bodies) == asked and engine.counters["moved"] == 1
        for one in (session, moved, *new):
            one.close()
        await engine.close()


async def test_turns_leave_a_server_that_hangs(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as first, StandIn(tiny_model().plain) as second:
        # It answers nothing, and keeps the connection: as a process that was stopped does.
        servers = [Server(Client(one.url, {}), "tiny", hang_s=1.0) for one in (first, second)]
        engine = VllmEngine(servers, "tiny", max_sequences=2)
        sessions = [await engine.open() for _ in range(2)]
        await asyncio.gather(*(one.generate(PROMPT, sampling()) for one in sessions))
        second.hangs = True
        assert (await sessions[1].generate([5], sampling())).token_ids
        assert engine.counters["moved"] == 1
        # Nor does it hold up the next version.
        folder, _ = adapter(tmp_path, seed=1)
        await asyncio.wait_for(engine.use_adapter(folder, 1), 30)
        second.hangs = False
        async with asyncio.timeout(60):
            while servers[1].is_lost:
                await asyncio.sleep(0.05)
        sessions[1].close()
        back = await engine.open()
        assert (await back.generate(PROMPT, sampling())).policy_version == 1
        assert list(second.adapters), "what it missed it is given with its first turn"
        await engine.close()


async def test_a_server_that_is_well_and_stuck_gets_no_turn_until_it_has_shown_a_token(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as first, StandIn(tiny_model().plain) as second:
        servers = [Server(Client(one.url, {}), "tiny", hang_s=1.0) for one in (first, second)]
        engine = VllmEngine(servers, "tiny", max_sequences=2)
        sessions = [await engine.open() for _ in range(2)]
        await asyncio.gather(*(one.generate(PROMPT, sampling()) for one in sessions))
        second.is_stuck = True
        assert (await sessions[1].generate([5], sampling())).token_ids
        for session in sessions:
            session.close()
        # Nothing is asked of it, and it says that it is well: several looks long.
        await asyncio.sleep(2.0)
        assert servers[1].is_lost and not servers[0].is_lost
        asked = len(first.bodies)
        both = [await engine.open() for _ in range(2)]
        await asyncio.gather(*(one.generate(PROMPT, sampling()) for one in both))
        assert len(first.bodies) == asked + 2
        second.is_stuck = False
        async with asyncio.timeout(60):
            while servers[1].is_lost:
                await asyncio.sleep(0.05)
        await engine.close()


async def test_where_no_server_is_there_turns_wait_for_the_first_that_comes_back(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as first, StandIn(tiny_model().plain) as second:
        engine = engine_at(first.url, second.url, max_sequences=2)
        sessions = [await engine.open() for _ in range(2)]
        await asyncio.gather(first.stop(), second.stop())
        turns = [asyncio.create_task(one.generate(PROMPT, sampling())) for one in sessions]
        await asyncio.sleep(2.0)
        assert not any(turn.done() for turn in turns)
        await first.start()
        assert all(turn.token_ids for turn in await asyncio.wait_for(asyncio.gather(*turns), 60))
        await engine.close()


async def test_an_engine_that_does_not_wait_says_so_where_no_server_is_there() -> None:
    async with StandIn(tiny_model().plain) as server:
        engine = engine_at(server.url)
        engine.waits = False
        session = await engine.open()
        await session.generate(PROMPT, sampling())
        await server.stop()
        with pytest.raises(EngineFailure, match="no vLLM server answers") as failure:
            await session.generate([5], sampling())
        assert failure.value.kind == "unreachable"
        session.close()
        await engine.close()


async def test_a_server_that_is_away_holds_no_version_up_and_samples_from_none_before_it(tmp_path: Path) -> None:
    async with StandIn(tiny_model().plain) as first, StandIn(tiny_model().plain) as second:
        engine = engine_at(first.url, second.url, max_sequences=2)
        engine.away_s = 60.0
        folders = [adapter(tmp_path / str(version), seed=version)[0] for version in (1, 2)]
        await engine.use_adapter(folders[0], 1)
        sessions = [await engine.open() for _ in range(2)]
        await second.stop()
        await engine.use_adapter(folders[1], 2)
        assert engine.policy_version == 2
        await second.start()
        turns = [await one.generate(PROMPT, sampling(max_tokens=6)) for one in sessions]
        assert [turn.policy_version for turn in turns] == [2, 2]
        assert [name.rpartition("-")[2] for name in second.adapters] == ["v2"]
        await engine.close()
