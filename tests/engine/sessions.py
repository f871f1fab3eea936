"""Rollouts without tools or chat: random prompts and random tool results in sessions of an engine."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from agentrft.engine import Generation, Sampling
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.limits import EngineLimits
from agentrft.models.forward import Forward, forward_of
from agentrft.models.lora import LoraAdapter
from tests.tiny_model import CONTEXT_TOKENS, VOCABULARY, TinyModel, padded_logprobs

STOP_ID = 7


def sampling(
    seed: int = 0,
    *,
    max_tokens: int = 8,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stop_ids: Sequence[int] = (),
    deadline_s: float = 60.0,
) -> Sampling:
    return Sampling(temperature, top_p, max_tokens, frozenset(stop_ids), seed, deadline_s)


def random_ids(source: random.Random, count: int) -> list[int]:
    return [source.randrange(VOCABULARY) for _ in range(count)]


@asynccontextmanager
async def running_engine(
    model: TinyModel,
    *,
    slots: int = 8,
    prefill_tokens: int = 512,
    deterministic: bool = False,
    batch: int = 8,
    forward: Callable[[PreTrainedModel], Forward] = forward_of,
    pages: int | None = None,
    context: int = CONTEXT_TOKENS,
) -> AsyncIterator[EmbeddedEngine]:
    limits = EngineLimits(context, slots, batch, prefill_tokens, pages)
    engine = EmbeddedEngine(forward(model.planned), limits, deterministic=deterministic)
    try:
        yield engine
    finally:
        await asyncio.wait_for(engine.close(), 20)


@dataclass
class Transcript:
    """What one session saw: all its token ids, and the sampled ones' positions and log-probabilities."""

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, appended: list[int], generation: Generation) -> None:
        self.token_ids += appended
        first = len(self.token_ids)
        self.token_ids += generation.token_ids
        self.positions += range(first, len(self.token_ids))
        self.logprobs += generation.logprobs
        self.reasons.append(generation.finish_reason)

    @property
    def sampled(self) -> list[int]:
        return [self.token_ids[position] for position in self.positions]


async def converse(
    engine: EmbeddedEngine,
    prompt: list[int],
    *,
    turns: int = 3,
    seed: int = 0,
    longest_wait_s: float = 0.003,
    temperature: float = 1.0,
    adapter: LoraAdapter | None = None,
) -> Transcript:
    """A session of several turns; tool results depend on `seed` alone, the time they take does not."""
    source = random.Random(seed)
    transcript = Transcript()
    session = await engine.open(adapter)
    try:
        appended = prompt
        for turn in range(turns):
            wanted = sampling(
                1000 * seed + turn, max_tokens=source.randint(1, 12), temperature=temperature, stop_ids=[STOP_ID]
            )
            transcript.add(appended, await session.generate(appended, wanted))
            await asyncio.sleep(random.random() * longest_wait_s)
            appended = random_ids(source, source.randint(1, 15))
    finally:
        session.close()
    return transcript


def errors(model: nn.Module, transcripts: Sequence[Transcript], temperature: float = 1.0) -> list[float]:
    """How far each log-probability is from a plain forward's over the whole context."""
    with torch.inference_mode():
        reference = padded_logprobs(model, [t.token_ids for t in transcripts], temperature)
    return [
        abs(float(expected[position - 1, transcript.token_ids[position]]) - logprob)
        for transcript, expected in zip(transcripts, reference, strict=True)
        for position, logprob in zip(transcript.positions, transcript.logprobs, strict=True)
    ]


def largest_error(model: TinyModel, transcripts: Sequence[Transcript], temperature: float = 1.0) -> float:
    """The largest of `errors` against the plain model."""
    return max(errors(model.plain, transcripts, temperature))
