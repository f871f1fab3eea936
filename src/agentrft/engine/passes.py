"""One pass of the model: what was planned, to sampled tokens. It runs in the engine's computing thread."""

import functools
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agentrft.engine.graphs import DecodeGraphs
from agentrft.engine.kv_cache import KVCache
from agentrft.engine.pass_plan import Chunk, PassPlan
from agentrft.engine.sampling import sample_tokens
from agentrft.engine.sequence import PassItem
from agentrft.engine.slots import Copies
from agentrft.engine.state_cache import StateCache
from agentrft.models.forward import Forward


class Sampled(NamedTuple):
    """Of a pass: a token and its log-probability for each item that samples; what is not finite had no finite logits.

    `replayed` is whether a recorded pass gave them.
    """

    tokens: list[int]
    logprobs: list[float]
    replayed: bool


@dataclass(frozen=True)
class Pass:
    """A planned pass.

    Attributes:
        work: items of a single token come first.
        copies: made before anything is computed.
    """

    work: list[PassItem]
    copies: Copies

    @torch.inference_mode()
    def run(self, forward: Forward, cache: KVCache, states: StateCache, graphs: DecodeGraphs | None = None) -> Sampled:
        """Compute it, or replay it where `graphs` can."""
        cache.ready()
        self._copy(cache, states)
        replayed = None if graphs is None else graphs.logits(self.work)
        logits = self._computed(forward, cache, states) if replayed is None else replayed
        for item in self.work:
            if item.keeps:
                states.keep(item.sequence.slot)
        requests = [item.request for item in self.work if item.samples]
        if not requests:
            return Sampled([], [], False)
        column = functools.partial(torch.tensor, dtype=torch.float32, device=forward.device)
        tokens, logprobs = sample_tokens(
            logits,
            column([request.sampling.temperature for request in requests]),
            column([request.sampling.top_p for request in requests]),
            column([_uniform24(request.uniform) for request in requests]),
        )
        return Sampled(tokens.tolist(), logprobs.tolist(), replayed is not None)

    def _copy(self, cache: KVCache, states: StateCache) -> None:
        for page in self.copies.wiped_pages:
            cache.wipe(page)
        for slot in self.copies.wiped_slots:
            states.wipe(slot)
        for source, target in self.copies.pages:
            cache.copy(source, target)
        for source, target, kept in self.copies.states:
            states.fork(source, target, kept=kept)
        for item in self.work:
            if item.offset == 0:
                states.wipe(item.sequence.slot)

    def _computed(self, forward: Forward, cache: KVCache, states: StateCache) -> Tensor:
        """Logits of the items that sample."""
        chunks, ids, positions, start = [], [], [], 0
        for item in self.work:
            chunks.append(Chunk(item.sequence.slot, start, item.length, item.offset, item.pages))
            ids += item.token_ids
            positions += range(item.offset, item.offset + item.length)
            start += item.length
        singles = sum(item.length == 1 for item in self.work)
        plan = PassPlan(cache, states, chunks[:singles], chunks[singles:])
        kept = [c.start + c.length - 1 for item, c in zip(self.work, chunks, strict=True) if item.samples]
        adapters = [item.sequence.adapter for item in self.work for _ in item.token_ids]
        packed = functools.partial(torch.tensor, dtype=torch.long, device=forward.device)
        return forward(packed(ids), packed(positions), packed(kept), plan, adapters if any(adapters) else None)


def _uniform24(generator: random.Random) -> float:
    """A uniform number that float32 holds exactly, so that it stays below 1."""
    return generator.getrandbits(24) / (1 << 24)
