"""In deterministic mode what is sampled depends on what is asked, not on how long tools take."""

import asyncio
import random
from collections.abc import Callable

import pytest
import torch

from tests.engine.sessions import Transcript, converse, random_ids, running_engine
from tests.tiny_model import TinyModel


async def run(model: TinyModel, *, slots: int, longest_wait_s: float) -> list[Transcript]:
    source = random.Random(0)
    prompts = [random_ids(source, source.randint(10, 50)) for _ in range(4)]
    async with running_engine(model, slots=slots, deterministic=True, prefill_tokens=64) as engine:
        return await asyncio.gather(
            *(
                converse(engine, prompts[seed // 4], turns=2 + seed % 3, seed=seed, longest_wait_s=longest_wait_s)
                for seed in range(16)
            )
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slots", [16, 5])
async def test_tokens_and_logprobs_are_the_same_to_the_bit_whatever_the_tools_delays(
    shared_model: Callable[..., TinyModel], dtype: torch.dtype, slots: int
) -> None:
    runs = [await run(shared_model("llama", dtype), slots=slots, longest_wait_s=wait_s) for wait_s in (0.0, 0.02, 0.02)]
    assert runs[0] == runs[1] == runs[2]
