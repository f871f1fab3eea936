"""Nothing is computed twice: not a group's prompt, not a rollout's earlier turns."""

import asyncio
import random
from collections.abc import Callable
from functools import partial

import pytest
import torch

from agentrft.engine import kv_cache
from agentrft.models.forward import Forward
from agentrft.models.memory import ReleasableZeros
from tests.engine.sessions import Transcript, converse, largest_error, random_ids, running_engine, sampling
from tests.tiny_model import TinyModel, tiny_model


def write_all(source: TinyModel, target: Forward) -> None:
    for name, weight in source.planned.named_parameters():
        target.write(name, weight)


async def test_a_groups_prompt_is_computed_once(shared_model: Callable[..., TinyModel]) -> None:
    model, prompt = shared_model(), random_ids(random.Random(0), 60)
    async with running_engine(model) as engine:
        transcripts = await asyncio.gather(*(converse(engine, prompt, turns=1, seed=seed) for seed in range(8)))
        computed, shared = engine.counters["tokens_computed"], engine.counters["prefix_tokens_shared"]
    # The prompt's last token is computed for each, because the first sampled one comes from it; what a turn sampled
    # last is not computed.
    sampled = sum(len(transcript.sampled) - 1 for transcript in transcripts)
    assert computed == 60 + 7 + sampled
    assert shared == 7 * 59
    assert largest_error(model, transcripts) < 1e-3


async def test_later_turns_compute_only_what_is_new(shared_model: Callable[..., TinyModel]) -> None:
    model, source = shared_model(), random.Random(1)
    async with running_engine(model, slots=3) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, random_ids(source, 30), turns=4, seed=seed) for seed in range(3))
        )
        # Each token once, but for the one that each rollout sampled last.
        assert engine.counters["tokens_computed"] == sum(len(t.token_ids) - 1 for t in transcripts)
    assert largest_error(model, transcripts) < 1e-3


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
async def test_nothing_is_shared_with_what_was_released(
    shared_model: Callable[..., TinyModel], as_on_a_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if as_on_a_gpu:
        monkeypatch.setattr(kv_cache, "LazyZeros", partial(ReleasableZeros, device=torch.device("cpu")))
    model, prompt = shared_model(), random_ids(random.Random(7), 60)
    async with running_engine(model) as engine:
        before = await converse(engine, prompt, turns=2, seed=0)
        await engine.release_memory()
        if as_on_a_gpu:
            assert {keys.untyped_storage().nbytes() for keys in engine._cache.keys.values()} == {0}
        after = await converse(engine, prompt, turns=2, seed=0)
        assert engine.counters["prefix_tokens_shared"] == 0
    assert before.sampled == after.sampled
    assert largest_error(model, [after]) < 1e-3


async def test_rollouts_that_wait_for_a_slot_still_find_their_groups_prompt(
    shared_model: Callable[..., TinyModel],
) -> None:
    model, source = shared_model(), random.Random(2)
    prompts = [random_ids(source, 50) for _ in range(2)]
    async with running_engine(model, slots=3) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, prompts[seed // 6], turns=2, seed=seed) for seed in range(12))
        )
        assert engine.counters["prefix_tokens_shared"] >= 10 * 49
    assert largest_error(model, transcripts) < 1e-3


async def test_a_prefix_is_shared_up_to_where_prompts_differ(shared_model: Callable[..., TinyModel]) -> None:
    model, source = shared_model(), random.Random(3)
    system = random_ids(source, 40)
    async with running_engine(model) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, [*system, seed, *random_ids(source, 10)], turns=1, seed=seed) for seed in range(5))
        )
        assert engine.counters["prefix_tokens_shared"] == 4 * 40
    assert largest_error(model, transcripts) < 1e-3


async def test_a_restarted_session_begins_anew(shared_model: Callable[..., TinyModel]) -> None:
    model, source = shared_model(), random.Random(4)
    first, second = random_ids(source, 40), random_ids(source, 30)
    async with running_engine(model) as engine:
        session = await engine.open()
        await session.generate(first, sampling(1))
        session.restart()
        transcript = Transcript()
        transcript.add(second, await session.generate(second, sampling(2)))
        session.close()
    assert largest_error(model, [transcript]) < 1e-3


async def test_new_weights_do_not_meet_the_old_policys_prefixes() -> None:
    model, prompt = tiny_model("llama", seed=1), random_ids(random.Random(5), 40)
    other = tiny_model("llama", seed=2)
    async with running_engine(model) as engine:
        before = await converse(engine, prompt, turns=1, seed=1)
        assert largest_error(model, [before]) < 1e-3
        await engine.update_weights(partial(write_all, other), 3)
        session = await engine.open()
        generation = await session.generate(prompt, sampling(2))
        session.close()
        assert generation.policy_version == engine.policy_version == 3
        assert engine.counters["prefix_tokens_shared"] == 0
        after = await converse(engine, prompt, turns=2, seed=2)
        assert engine.counters["prefix_tokens_shared"] == 39, "of the new policy"
    assert largest_error(other, [after]) < 1e-3


async def test_with_more_sequences_than_a_batch_takes_all_of_them_advance_together(
    shared_model: Callable[..., TinyModel],
) -> None:
    model, source = shared_model(), random.Random(3)
    async with running_engine(model, slots=6, batch=2) as engine:

        async def passes_until_done(seed: int) -> int:
            session = await engine.open()
            await session.generate(random_ids(source, 20), sampling(seed, max_tokens=20))
            session.close()
            return engine.counters["passes"]

        done = await asyncio.gather(*(passes_until_done(seed) for seed in range(6)))
    # Served in turn, each sequence gets every third pass, so that none is done before about 3 x 20.
    assert min(done) > 40
