"""The engine's memory: one preallocated slot of keys and values per sequence, and attention over it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from agentrft.models.attention import causal_mask, grouped_attention


class KVCache:
    """Keys and values of `slots` sequences of at most `max_tokens` tokens.

    Shape per layer: [slots, kv_heads, max_tokens, head_dim]. Zeroed, because masked positions still enter the
    product with the values, where leftover NaNs would spread.
    """

    def __init__(
        self, *, layers: int, slots: int, kv_heads: int, max_tokens: int, head_dim: int, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        shape = (slots, kv_heads, max_tokens, head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.max_tokens = max_tokens

    def copy_prefix(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` positions of one slot to another."""
        for cache in (*self.keys, *self.values):
            cache[target, :, :tokens] = cache[source, :, :tokens]


@dataclass(frozen=True)
class Chunk:
    """New tokens of one sequence: packed positions [start, start + length), context positions from `offset`."""

    slot: int
    start: int
    length: int
    offset: int


class CachedAttention:
    """Attention plan of one engine pass: single-token rows first, then chunks of several tokens.

    Single tokens are grouped matrix products over the slots they span, without gathering or expanding any keys.
    """

    def __init__(self, cache: KVCache, single: list[Chunk], chunks: list[Chunk]) -> None:
        self._cache = cache
        self._single = single
        self._chunks = chunks
        device = cache.keys[0].device
        everything = [*single, *chunks]
        self._slots = torch.tensor([c.slot for c in everything for _ in range(c.length)], device=device)
        self._positions = torch.tensor([c.offset + i for c in everything for i in range(c.length)], device=device)
        self._masks = [causal_mask(c.length, c.offset + c.length, device) if c.length > 1 else None for c in chunks]
        if single:
            slots = [c.slot for c in single]
            self._first, self._last = min(slots), max(slots) + 1
            self._rows = torch.tensor([slot - self._first for slot in slots], device=device)
            self._longest = max(c.offset for c in single) + 1
            lengths = torch.zeros(self._last - self._first, dtype=torch.long, device=device)
            lengths[self._rows] = torch.tensor([c.offset + 1 for c in single], device=device)
            # Slots between the used ones are computed and thrown away; one visible key keeps their softmax finite.
            hidden = torch.arange(self._longest, device=device) >= lengths.clamp(min=1).unsqueeze(1)
            self._bias = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))[:, None, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `AttentionPlan.attend`; stores the new keys and values first."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._slots, :, self._positions] = key.transpose(0, 1)
        values[self._slots, :, self._positions] = value.transpose(0, 1)
        parts = []
        if self._single:
            parts.append(self._attend_single(query[:, : len(self._single)], keys, values, scaling))
        for chunk, mask in zip(self._chunks, self._masks, strict=True):
            seen = chunk.offset + chunk.length
            own = query[:, chunk.start : chunk.start + chunk.length]
            parts.append(
                grouped_attention(own, keys[chunk.slot, :, :seen], values[chunk.slot, :, :seen], scaling, mask)
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_single(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        heads, rows, head_dim = query.shape
        kv_heads, slots = keys.shape[1], self._last - self._first
        window = query.new_zeros(slots, heads, head_dim)
        window[self._rows] = query.transpose(0, 1)
        grouped = window.view(slots, kv_heads, heads // kv_heads, head_dim)
        keys = keys[self._first : self._last, :, : self._longest]
        values = values[self._first : self._last, :, : self._longest]
        scores = torch.matmul(grouped * scaling, keys.transpose(2, 3)).float() + self._bias
        attended = torch.matmul(scores.softmax(dim=-1).to(query.dtype), values)
        return attended.reshape(slots, heads, head_dim)[self._rows]
