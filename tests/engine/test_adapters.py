"""Several LoRA adapters and the model alone, in the same passes of one engine."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrft.engine import EngineFailure
from agentrft.models import packed
from agentrft.models.forward import Forward, TransformersForward
from agentrft.models.lora import LONG_RUN_ROWS, LoraAdapter
from agentrft.models.packed import PackedModel
from tests.engine.lora_adapters import RandomAdapter, random_adapter
from tests.engine.sessions import Transcript, converse, errors, largest_error, random_ids, running_engine, sampling
from tests.tiny_model import ARCHITECTURES, TinyModel, padded_logprobs, tiny_model

# Both sides of where rows of one adapter are a product of their own.
PROMPTS = (20, LONG_RUN_ROWS + 10)


def three_adapters(model: TinyModel) -> list[RandomAdapter]:
    return [
        random_adapter(model, 2, seed=1),
        random_adapter(model, 8, seed=2, rslora=True),
        random_adapter(model, 5, seed=3, targets=["q_proj", "v_proj", "down_proj"]),
    ]


def keep_model(kept: list[PackedModel]) -> Callable[..., Forward]:
    def make(model: torch.nn.Module) -> Forward:
        kept.append(PackedModel(model))  # pyright: ignore[reportArgumentType]
        return kept[0]

    return make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_adapters_of_different_ranks_in_one_batch_say_what_peft_says(
    architecture: str, shared_model: Callable[..., TinyModel]
) -> None:
    model, made = shared_model(architecture), list[PackedModel]()
    adapters = three_adapters(model)
    async with running_engine(model, forward=keep_model(made), prefill_tokens=200) as engine:
        ours: list[LoraAdapter | None] = [None, *(adapter.on(made[0]) for adapter in adapters)]
        transcripts = await asyncio.gather(
            *(
                converse(
                    engine,
                    random_ids(random.Random(seed), PROMPTS[seed % 2]),
                    seed=seed,
                    temperature=0.0,
                    adapter=ours[seed % 4],
                )
                for seed in range(12)
            )
        )
        assert engine.counters["passes"] < engine.counters["tokens_sampled"] / 2, "they were not computed together"
    references = [model.plain, *(adapter.reference for adapter in adapters)]
    for number, reference in enumerate(references):
        own = transcripts[number::4]
        assert max(errors(reference, own)) < 2e-4
        assert max(errors(references[number - 1], own)) > 0.1, "another adapter says the same"
        for transcript in own:
            expected = padded_logprobs(reference, [transcript.token_ids])[0].argmax(dim=-1)
            assert transcript.sampled == [int(expected[position - 1]) for position in transcript.positions]


async def test_the_model_alone_says_the_same_beside_adapters(shared_model: Callable[..., TinyModel]) -> None:
    model, made = shared_model(), list[PackedModel]()
    prompts = [random_ids(random.Random(seed), 30) for seed in range(3)]

    async def alone() -> list[Transcript]:
        return await asyncio.gather(*(converse(engine, prompt, seed=5, temperature=0.0) for prompt in prompts))

    async with running_engine(model, forward=keep_model(made)) as engine:
        before = await alone()
        await engine.release_memory()
        others = [
            converse(engine, random_ids(random.Random(seed), 30), seed=seed, adapter=adapter.on(made[0]))
            for seed, adapter in enumerate(three_adapters(model))
        ]
        beside, *_ = await asyncio.gather(alone(), *others)
    for first, second in zip(before, beside, strict=True):
        assert first.sampled == second.sampled
        assert first.logprobs == pytest.approx(second.logprobs, abs=1e-5)


async def test_a_prefix_is_shared_only_within_an_adapter(shared_model: Callable[..., TinyModel]) -> None:
    model, made = shared_model(), list[PackedModel]()
    prompt, adapters = random_ids(random.Random(0), 60), three_adapters(model)[:2]
    async with running_engine(model, forward=keep_model(made)) as engine:
        ours = [None, *(adapter.on(made[0]) for adapter in adapters)]

        def turn(seed: int, adapter: LoraAdapter | None) -> Coroutine[Any, Any, Transcript]:
            return converse(engine, prompt, turns=1, seed=seed, adapter=adapter)

        at_once = await asyncio.gather(*(turn(seed, own) for seed, own in enumerate(ours)))
        assert engine.counters["prefix_tokens_shared"] == 0
        again = [await turn(9 + seed, own) for seed, own in enumerate(ours)]
        assert engine.counters["prefix_tokens_shared"] == 3 * 59
    for number, reference in enumerate([model.plain, *(adapter.reference for adapter in adapters)]):
        assert max(errors(reference, [at_once[number], again[number]])) < 2e-4


async def test_what_another_adapter_left_in_a_slot_is_not_used_again(shared_model: Callable[..., TinyModel]) -> None:
    model, made = shared_model(), list[PackedModel]()
    prompt, adapters = random_ids(random.Random(0), 60), three_adapters(model)[:2]
    async with running_engine(model, forward=keep_model(made)) as engine:
        # The last one is the first one loaded again.
        order = [adapters[0].on(made[0]), None, adapters[1].on(made[0]), adapters[0].on(made[0])]
        transcripts = [await converse(engine, prompt, turns=1, seed=1, adapter=own) for own in order]
        assert engine.counters["prefix_tokens_shared"] == 0
    references = [adapters[0].reference, model.plain, adapters[1].reference, adapters[0].reference]
    for reference, transcript in zip(references, transcripts, strict=True):
        assert max(errors(reference, [transcript])) < 2e-4


async def test_an_adapter_that_overflows_fails_its_own_turns_and_leaves_nothing_behind(
    shared_model: Callable[..., TinyModel],
) -> None:
    model, made = shared_model(), list[PackedModel]()
    good = three_adapters(model)[0]
    broken = replace(good, scale=1e30)
    async with running_engine(model, forward=keep_model(made), slots=3) as engine:
        ours, theirs = good.on(made[0]), broken.on(made[0])

        async def fails(seed: int) -> None:
            session = await engine.open(theirs)
            with pytest.raises(EngineFailure, match="the adapter has diverged") as failure:
                await session.generate(random_ids(random.Random(seed), 40), sampling(seed))
            assert failure.value.kind == "forward"
            session.close()

        both = [ours, None]
        turns = [converse(engine, random_ids(random.Random(s), 20), seed=s, adapter=both[s % 2]) for s in range(12)]
        transcripts, *_ = await asyncio.gather(asyncio.gather(*turns), *(fails(seed) for seed in range(6)))
    assert max(errors(good.reference, transcripts[0::2])) < 2e-4
    assert largest_error(model, transcripts[1::2]) < 1e-3


@pytest.mark.parametrize("architecture", ["llama_wide", "qwen3_wide"])
async def test_native_kernels_in_bfloat16_follow_each_row_to_its_adapter(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the rows of a pass are split within an adapter's and between two.
    monkeypatch.setattr(packed, "FEED_FORWARD_ROWS", 7)
    model, made = tiny_model(architecture, torch.bfloat16), list[PackedModel]()
    exact = tiny_model(architecture)
    adapters = three_adapters(exact)
    async with running_engine(model, forward=keep_model(made)) as engine:
        ours: list[LoraAdapter | None] = [None, *(adapter.on(made[0]) for adapter in adapters)]
        transcripts = await asyncio.gather(
            *(
                converse(engine, random_ids(random.Random(seed), PROMPTS[seed % 2]), seed=seed, adapter=ours[seed % 4])
                for seed in range(8)
            )
        )
    for number, reference in enumerate([exact.plain, *(adapter.reference for adapter in adapters)]):
        own = sorted(errors(reference, transcripts[number::4]))
        other = sorted(errors(exact.plain if number else adapters[0].reference, transcripts[number::4]))
        assert own[len(own) // 2] < 0.05
        assert other[len(other) // 2] > 3 * own[len(own) // 2]


def test_an_adapter_of_another_shape_is_refused(shared_model: Callable[..., TinyModel]) -> None:
    model, other = PackedModel(shared_model().planned), random_adapter(tiny_model("llama_wide"), 4, seed=0)

    with pytest.raises(ValueError, match="do not fit"):
        other.on(model)
    with pytest.raises(ValueError, match=r"no linear layer 'lm_head'"):
        model.lora({"lm_head": other.layers["model.layers.0.self_attn.q_proj"]}, 1.0)


def test_models_that_run_as_transformers_modules_refuse_adapters(shared_model: Callable[..., TinyModel]) -> None:
    model = shared_model()
    adapter = three_adapters(model)[0].on(PackedModel(model.planned))
    ids = torch.zeros(1, dtype=torch.long)

    with pytest.raises(ValueError, match="'llama' computes no adapters"):
        TransformersForward(model.planned)(ids, ids, ids, None, [adapter])  # pyright: ignore[reportArgumentType]
