"""64 rollouts that may have 32,768 tokens each and have some 1,200: with pages that are taken as tokens come, and with
the whole context reserved for each, in the same memory."""

import asyncio
import random
import time
from dataclasses import dataclass, replace

from agentrft.engine import Sampling
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.kv_cache import bytes_per_slot, cache_within
from agentrft.engine.limits import EngineLimits
from agentrft.engine.pages import pages_of
from agentrft.job.memory_budget import KV_CACHE_SHARE
from agentrft.models.forward import Forward, forward_of
from agentrft.models.memory import device_memory
from benchmarks.gpu.findings import Findings, Setting
from benchmarks.gpu.models import shape, shaped_model


@dataclass(frozen=True)
class Load:
    """Rollouts, what each may have and has, in tokens."""

    rollouts: int
    context: int
    prompt: int
    sampled: int


def run(setting: Setting, findings: Findings) -> None:
    """A model of the setting's shape, both ways."""
    assert setting.model is not None
    load = Load(8, 512, 24, 12) if setting.small else Load(64, 32768, 1024, 192)
    forward = forward_of(shaped_model(setting.model, setting.dtype, setting.device))
    slot = bytes_per_slot(forward.cache_shapes, load.context, setting.dtype.itemsize)
    budget = 2 * slot if setting.small else int(KV_CACHE_SHARE * device_memory(setting.device))
    reserved = EngineLimits(load.context, max_sequences=budget // slot, max_batch_size=load.rollouts)
    size = cache_within(
        forward.cache_shapes,
        budget=budget,
        max_tokens=load.context,
        itemsize=setting.dtype.itemsize,
        wanted=load.rollouts,
    )
    paged = replace(reserved, max_sequences=size.sequences, cache_pages=size.pages)
    findings.note(load=vars(load), cache_bytes=budget, at_once={"reserved": budget // slot, "paged": size.sequences})
    seconds = {
        name: asyncio.run(_seconds(forward, limits, load, name, setting, findings))
        for name, limits in (("reserved", reserved), ("paged", paged))
    }
    findings.note(seconds_by_way=seconds, paged_times_as_fast=seconds["reserved"] / seconds["paged"])
    findings.check("long context: rollouts that are not at once", load.rollouts - size.sequences, at_most=0)


async def _seconds(
    forward: Forward, limits: EngineLimits, load: Load, name: str, setting: Setting, findings: Findings
) -> float:
    """Of all rollouts, of which as many are open at once as the engine lets in."""
    engine, source = EmbeddedEngine(forward, limits), random.Random(0)
    vocabulary, most_pages = shape(str(setting.model)).vocab_size, 0

    async def rollout(prompt: list[int], seed: int) -> None:
        nonlocal most_pages
        session = await engine.open()
        try:
            await session.generate(prompt, Sampling(1.0, 1.0, load.sampled, frozenset(), seed, deadline_s=300.0))
            most_pages = max(most_pages, engine.pages_taken)
        finally:
            session.close()

    prompts = [[source.randrange(vocabulary) for _ in range(load.prompt)] for _ in range(load.rollouts)]
    try:
        # What is chosen and recorded at the first passes is not timed.
        await rollout(prompts[0][: load.prompt // 2], -1)
        most_pages = 0
        started = time.perf_counter()
        await asyncio.gather(*(rollout(prompt, seed) for seed, prompt in enumerate(prompts)))
        seconds = time.perf_counter() - started
    finally:
        await engine.close()
    needed = load.rollouts * pages_of(load.prompt + load.sampled)
    findings.note(most_pages={name: most_pages})
    findings.check(f"long context: pages taken of those that {name} tokens need", most_pages / needed, at_most=1.0)
    return seconds
