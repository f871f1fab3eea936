"""Decoding of 64 sequences by the embedded engine, against the memory's bandwidth, and the memory that it takes."""

import asyncio
import gc
import random
import time
from dataclasses import dataclass

import torch

from agentrft.engine import Sampling
from agentrft.engine.embedded import EmbeddedEngine, EmbeddedSession
from agentrft.engine.kv_cache import bytes_per_slot
from agentrft.engine.limits import EngineLimits
from agentrft.models.architecture import Architecture, inspect_architecture
from agentrft.models.forward import forward_of
from benchmarks.gpu.device_memory import DeviceMemory
from benchmarks.gpu.facts import copy_rate
from benchmarks.gpu.findings import Findings, Setting
from benchmarks.gpu.models import shape, shaped_model
from benchmarks.gpu.profile import profiled

WARM_UP_TOKENS, PROFILED_TOKENS = 8, 4
GOAL_OF_BANDWIDTH = 0.5
# The prediction is to hold, with what a pass needs in between, the head's logits above all.
MEMORY_SLACK = 1.15


@dataclass(frozen=True)
class Load:
    sequences: int
    prompt: int
    tokens: int

    @property
    def longest(self) -> int:
        """A sequence's context at the end, in tokens."""
        return self.prompt + self.tokens + WARM_UP_TOKENS + PROFILED_TOKENS + 2


def run(setting: Setting, findings: Findings) -> None:
    """A model of the setting's shape, decoding."""
    assert setting.model is not None
    load = Load(64, 12, 12) if setting.small else Load(64, 512, 128)
    architecture = inspect_architecture(shape(setting.model), setting.dtype)
    bandwidth = copy_rate(setting)
    memory = DeviceMemory(setting.device)
    memory.begin()
    before = memory.used
    with findings.timed("making the model"):
        forward = forward_of(shaped_model(setting.model, setting.dtype, setting.device))
        # transformers' model refers to itself, and its weights were copied.
        gc.collect()
        setting.wait()
    engine = EmbeddedEngine(forward, EngineLimits(load.longest, max_sequences=load.sequences))
    predicted = _predicted_bytes(architecture, setting.dtype, load)
    findings.note(load=vars(load), parameters=architecture.parameters, predicted_bytes=predicted)
    memory.begin()
    asyncio.run(_decode(engine, architecture, load, bandwidth, setting, findings))
    measured = memory.peak - before
    findings.note(measured_bytes=measured)
    if setting.device.type == "cuda":
        share = measured / sum(predicted.values())
        findings.check("decoding: memory, as a share of the prediction", share, at_most=MEMORY_SLACK)
        limits = EngineLimits(load.longest, max_sequences=load.sequences, cuda_graphs=False)
        asyncio.run(_decode_without_graphs(EmbeddedEngine(forward, limits), load, setting, findings))


def _predicted_bytes(architecture: Architecture, dtype: torch.dtype, load: Load) -> dict[str, int]:
    slot = bytes_per_slot(architecture.cache_shapes, load.longest, dtype.itemsize)
    return {"weights": architecture.parameters * dtype.itemsize, "kv_cache": load.sequences * slot}


class _Rollouts:
    """Sessions of one engine that sample all at once."""

    def __init__(self, engine: EmbeddedEngine, load: Load, vocabulary: int) -> None:
        source = random.Random(0)
        self._engine = engine
        self._prompts = [[source.randrange(vocabulary) for _ in range(load.prompt)] for _ in range(load.sequences)]
        self._sessions: list[EmbeddedSession] = []

    async def sample(self, tokens: int) -> float:
        """Seconds for so many tokens of each; the first time after their prompts."""
        prompts = self._prompts
        if self._sessions:
            prompts = [[] for _ in prompts]
        else:
            self._sessions = [await self._engine.open() for _ in prompts]
        started = time.perf_counter()
        turns = enumerate(zip(self._sessions, prompts, strict=True))
        await asyncio.gather(
            *(
                session.generate(prompt, Sampling(1.0, 1.0, tokens, frozenset(), seed, deadline_s=300.0))
                for seed, (session, prompt) in turns
            )
        )
        return time.perf_counter() - started

    async def step_seconds(self, tokens: int) -> float:
        """Of one pass, while so many tokens of each are sampled."""
        passes = self._engine.counters["passes"]
        seconds = await self.sample(tokens)
        return seconds / (self._engine.counters["passes"] - passes)

    def close(self) -> None:
        for session in self._sessions:
            session.close()


async def _decode(
    engine: EmbeddedEngine,
    architecture: Architecture,
    load: Load,
    bandwidth: float,
    setting: Setting,
    findings: Findings,
) -> None:
    rollouts = _Rollouts(engine, load, shape(str(setting.model)).vocab_size)
    on_gpu = setting.device.type == "cuda"
    try:
        prefill_s = await rollouts.sample(1)
        await rollouts.sample(WARM_UP_TOKENS)
        replayed = engine.counters["passes_replayed"]
        step_s = await rollouts.step_seconds(load.tokens)
        replayed = engine.counters["passes_replayed"] - replayed
        findings.note(
            prefill_tokens_per_s=load.sequences * load.prompt / prefill_s,
            decode_tokens_per_s=load.sequences / step_s,
            decode_step_ms=1000 * step_s,
            passes_replayed=replayed,
        )
        if on_gpu:
            findings.check("decoding: share of passes that are no CUDA graph", 1 - replayed / load.tokens, at_most=0.1)
        itemsize = setting.dtype.itemsize
        context = load.prompt + 1 + WARM_UP_TOKENS + load.tokens / 2
        keys_and_values = load.sequences * context * architecture.cache_shapes.elements_per_token * itemsize
        # With tied embeddings all weights are read in a step; of untied ones a few rows of the embedding are not many.
        step_bytes = architecture.parameters * itemsize + keys_and_values
        share = step_bytes / step_s / bandwidth
        findings.note(decode_bytes_per_step=step_bytes, decode_share_of_bandwidth=share, goal=GOAL_OF_BANDWIDTH)
        with profiled(setting, findings, "decode_profile"):
            await rollouts.sample(PROFILED_TOKENS)
    finally:
        rollouts.close()
        if on_gpu:
            before = torch.cuda.memory_allocated(setting.device)
            await engine.release_memory()
            released = before - torch.cuda.memory_allocated(setting.device)
            slots = load.sequences * bytes_per_slot(architecture.cache_shapes, load.longest, setting.dtype.itemsize)
            findings.check("decoding: share of the KV cache that stays", 1 - released / slots, at_most=0.1)
        await engine.close()


async def _decode_without_graphs(engine: EmbeddedEngine, load: Load, setting: Setting, findings: Findings) -> None:
    rollouts = _Rollouts(engine, load, shape(str(setting.model)).vocab_size)
    try:
        await rollouts.sample(1 + WARM_UP_TOKENS)
        findings.note(decode_step_ms_without_graphs=1000 * await rollouts.step_seconds(load.tokens))
    finally:
        rollouts.close()
        await engine.close()
