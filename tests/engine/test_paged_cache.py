"""The KV cache holds what tokens there are; where it is full rollouts wait or are computed again, to the same end."""

import asyncio
import logging
import random
from collections.abc import Callable

import pytest
import torch

from agentrft.engine import EngineFailure, kv_cache, pass_plan
from agentrft.engine.embedded import EmbeddedEngine, EmbeddedSession
from agentrft.engine.pages import PAGE_TOKENS, pages_of
from agentrft.engine.pass_plan import SingleTokens
from agentrft.models.forward import TransformersForward, forward_of
from tests.engine.sessions import Transcript, converse, largest_error, random_ids, running_engine, sampling
from tests.model_families import family_model
from tests.tiny_model import TinyModel


def ids(seed: int, count: int) -> list[int]:
    return random_ids(random.Random(seed), count)


async def turn(session: EmbeddedSession, transcript: Transcript, new: list[int], max_tokens: int = 8) -> None:
    wanted = sampling(len(transcript.token_ids), max_tokens=max_tokens, temperature=0.0)
    transcript.add(new, await session.generate(new, wanted))


def held(engine: EmbeddedEngine) -> list[list[int]]:
    """The pages of everyone who holds some."""
    slots = engine._slots
    return [one.pages for one in (*slots.open.values(), *slots._retained.values())]


async def test_memory_grows_with_tokens_over_forty_turns_and_none_is_computed_twice(
    shared_model: Callable[..., TinyModel],
) -> None:
    turns, new, sampled = 40, 80, 20
    model, transcript = shared_model(), Transcript()
    async with running_engine(model, context=turns * (new + sampled), slots=64, pages=70) as engine:
        session = await engine.open()
        for number in range(turns):
            await turn(session, transcript, ids(number, new), sampled)
            # What a turn sampled last is not computed before the next one.
            assert engine.pages_taken == pages_of(len(transcript.token_ids) - 1)
        assert len(transcript.token_ids) == 4_000
        assert engine.counters["tokens_computed"] == 4_000 - 1
        assert engine.counters["tokens_recomputed"] == 0
        session.close()
        await engine.release_memory()
        assert engine.pages_taken == 0


async def test_a_group_holds_its_prompts_pages_once(shared_model: Callable[..., TinyModel]) -> None:
    model, prompt = shared_model(), ids(0, 150)
    transcripts = [Transcript() for _ in range(6)]
    async with running_engine(model) as engine:
        sessions = [await engine.open() for _ in transcripts]
        await asyncio.gather(*(turn(*both, prompt) for both in zip(sessions, transcripts, strict=True)))
        # Two full pages for all of them, and for each a third one of its own, since that goes on differently.
        assert engine.pages_taken == 2 + 6
        assert engine.counters["tokens_computed"] == 150 + 5 + 6 * 7
        for number, (session, transcript) in enumerate(zip(sessions, transcripts, strict=True)):
            await turn(session, transcript, ids(number, 70))
        for session in sessions:
            session.close()
    assert largest_error(model, transcripts) < 1e-3


async def test_prefixes_of_closed_rollouts_go_first_and_the_least_recently_used_of_them(
    shared_model: Callable[..., TinyModel],
) -> None:
    model, transcripts = shared_model(), []
    async with running_engine(model, slots=4, pages=8) as engine:
        for seed in (0, 1, 2, 0):  # the first one is used again
            transcripts.append(await converse(engine, ids(seed, 100), turns=1, seed=seed))
        before = engine.counters["tokens_computed"]
        transcripts.append(await converse(engine, ids(3, 200), turns=1, seed=3))
        transcripts.append(await converse(engine, ids(0, 100), turns=1, seed=4))
        sampled = sum(len(t.sampled) - 1 for t in transcripts[-2:])
        assert engine.counters["tokens_computed"] == before + 200 + 1 + sampled
        assert engine.counters["tokens_recomputed"] == 0
    assert largest_error(model, transcripts) < 1e-3


# Plain, with states, with shared keys and windows, with sinks.
@pytest.mark.parametrize("family", ["llama", "qwen3_5", "gemma4", "gpt_oss"])
async def test_a_rollout_that_lost_its_pages_while_its_tools_ran_goes_on_as_if_it_had_not(
    shared_model: Callable[..., TinyModel], family: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    model = shared_model() if family == "llama" else family_model(family)
    forward = forward_of if family == "llama" else TransformersForward
    transcripts = [Transcript() for _ in range(3)]
    async with running_engine(model, pages=6, slots=3, forward=forward) as engine:
        sessions = [await engine.open() for _ in transcripts]
        for number in range(3):
            # One after the other, so that the others wait for their tools; 300 tokens do not fit into six pages.
            for seed, (session, transcript) in enumerate(zip(sessions, transcripts, strict=True)):
                await turn(session, transcript, ids(10 * number + seed, 100 if number == 0 else 30))
        assert engine.pages_taken <= 6
        assert engine.counters["tokens_recomputed"] > 0
        for session in sessions:
            session.close()
    assert largest_error(model, transcripts) < 1e-3
    told = [record.message for record in caplog.records if "engine.kv_cache_mb" in record.message]
    assert len(told) == 1


@pytest.mark.parametrize(("pages", "batch"), [(4, 8), (5, 1), (6, 2), (9, 8)])
async def test_more_rollouts_than_fit_all_come_to_their_end(
    shared_model: Callable[..., TinyModel], pages: int, batch: int
) -> None:
    model, prompts = shared_model(), [ids(seed, 90 + 10 * seed) for seed in range(4)]
    async with running_engine(model, pages=pages, slots=12, batch=batch, prefill_tokens=64) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, prompts[seed % 4], turns=4, seed=seed, temperature=0.0) for seed in range(12))
        )
        assert engine.pages_taken <= pages
    async with running_engine(model, slots=12) as engine:
        alone = [await converse(engine, prompts[s % 4], turns=4, seed=s, temperature=0.0) for s in range(12)]
    assert [one.token_ids for one in transcripts] == [one.token_ids for one in alone]
    assert largest_error(model, transcripts) < 1e-3


async def test_the_rollout_that_started_first_never_waits(shared_model: Callable[..., TinyModel]) -> None:
    model, first, others = shared_model(), Transcript(), [Transcript() for _ in range(3)]
    async with running_engine(model, pages=6, slots=4) as engine:
        sessions = [await engine.open() for _ in range(4)]
        running = [
            asyncio.create_task(turn(session, transcript, ids(seed, 120), 100))
            for seed, (session, transcript) in enumerate(zip(sessions[1:], others, strict=True))
        ]
        await turn(sessions[0], first, ids(9, 200), 56)
        assert engine.counters["tokens_recomputed"] <= 240
        assert not all(task.done() for task in running)
        sessions[0].close()
        await asyncio.gather(*running)
        for session in sessions:
            session.close()
    assert largest_error(model, [first, *others]) < 1e-3


async def test_nobody_starts_while_others_wait_for_pages_and_their_deadline_waits_too(
    shared_model: Callable[..., TinyModel],
) -> None:
    model, first = shared_model(), Transcript()
    async with running_engine(model, pages=4, slots=3) as engine:
        sessions = [await engine.open() for _ in range(2)]
        await turn(sessions[0], first, ids(0, 200))
        running = asyncio.create_task(turn(sessions[0], first, ids(1, 10), 30))
        late = asyncio.create_task(sessions[1].generate(ids(2, 200), sampling(2, max_tokens=4, deadline_s=60.0)))
        while engine._slots.open[1].request is None or engine._slots.open[1].request.starved_since is None:
            await asyncio.sleep(0.001)
        # As if it had waited for longer than a turn may take.
        engine._slots.open[1].request.deadline -= 1000.0
        engine._slots.open[1].request.starved_since -= 1000.0
        third = asyncio.create_task(engine.open())
        await asyncio.sleep(0)
        assert not third.done()
        await running
        sessions[0].close()
        assert len((await late).token_ids) == 4
        sessions[1].close()
        (await asyncio.wait_for(third, 20)).close()


async def test_a_deterministic_engine_has_pages_for_all_its_sequences(
    shared_model: Callable[..., TinyModel],
) -> None:
    with pytest.raises(ValueError, match="too few"):
        async with running_engine(shared_model(), deterministic=True, slots=4, pages=15):
            pass
    with pytest.raises(ValueError, match="too few"):
        async with running_engine(shared_model(), slots=4, pages=3):
            pass


async def test_whoever_shares_a_spoiled_page_is_computed_anew(shared_model: Callable[..., TinyModel]) -> None:
    model, prompt = shared_model(), ids(0, 150)
    transcripts = [Transcript() for _ in range(3)]
    async with running_engine(model) as engine:
        sessions = [await engine.open() for _ in transcripts]
        await asyncio.gather(*(turn(*both, prompt) for both in zip(sessions, transcripts, strict=True)))
        sessions.pop().close()
        shared = set.intersection(*(set(pages) for pages in held(engine)))
        assert len(shared) == 2
        # As a pass leaves it whose numbers overflow.
        engine._cache.values[1][min(shared)] = float("nan")
        with pytest.raises(EngineFailure, match="not finite"):
            await sessions[0].generate(ids(1, 5), sampling())
        await turn(sessions[1], transcripts[1], ids(1, 5))
        assert engine.counters["tokens_recomputed"] == 150 + 7
        sessions[0].restart()
        transcripts[0] = Transcript()
        await turn(sessions[0], transcripts[0], prompt)
        fresh = await converse(engine, prompt, turns=1)
        for session in sessions:
            session.close()
        assert not any(part.isnan().any() for part in (*engine._cache.keys.values(), *engine._cache.values.values()))
    assert largest_error(model, [*transcripts, fresh]) < 1e-3


async def test_a_pass_that_failed_before_it_copied_leaves_no_prefix_that_is_not_there(
    shared_model: Callable[..., TinyModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompt, transcript = shared_model(), ids(0, 150), Transcript()
    async with running_engine(model) as engine:
        first, second = await engine.open(), await engine.open()
        await first.generate(prompt, sampling())

        def out_of_memory() -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        with monkeypatch.context() as patched:
            patched.setattr(engine._cache, "ready", out_of_memory)
            with pytest.raises(EngineFailure, match="out of memory"):
                await second.generate(prompt, sampling())
        second.restart()
        await turn(second, transcript, prompt)
        first.close()
        second.close()
    assert largest_error(model, [transcript]) < 1e-3


async def test_pages_of_a_rollout_closed_in_mid_pass_are_anothers_only_after_it(
    shared_model: Callable[..., TinyModel],
) -> None:
    model = shared_model()
    async with running_engine(model, pages=4, slots=2) as engine:
        transcripts = []
        for seed in range(6):
            session = await engine.open()
            cut_off = asyncio.create_task(session.generate(ids(seed, 150), sampling(seed, max_tokens=90)))
            # Often enough in the middle of one.
            await asyncio.sleep(0.004 * seed)
            session.close()
            transcripts.append(await converse(engine, ids(100 + seed, 200), turns=1, seed=seed))
            with pytest.raises(asyncio.CancelledError):
                await cut_off
    assert largest_error(model, transcripts) < 1e-3


def test_a_page_holds_as_many_tokens_as_the_kernels_take_together() -> None:
    assert PAGE_TOKENS == 64
    assert [pages_of(tokens) for tokens in (0, 1, 64, 65)] == [0, 1, 1, 2]


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "deepseek_v3"])
@pytest.mark.parametrize("at_once", [1, 3, 100])
async def test_without_kernels_pages_are_gathered_a_few_or_all_at_once(
    shared_model: Callable[..., TinyModel], family: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "cache_kernels_for", lambda *_: None)
    monkeypatch.setattr(pass_plan, "SingleTokens", lambda single, table, _: SingleTokens(single, table, at_once))
    model = shared_model() if family == "llama" else family_model(family)
    forward = forward_of if family == "llama" else TransformersForward
    async with running_engine(model, slots=6, forward=forward) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, ids(seed // 2, 3 + 60 * (seed // 2)), turns=3, seed=seed) for seed in range(6))
        )
        assert engine.counters["prefix_tokens_shared"] > 100
    assert largest_error(model, transcripts) < 1e-3
