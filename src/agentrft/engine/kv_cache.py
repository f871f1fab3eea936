"""The engine's memory: one preallocated slot of keys and values per sequence, and attention over it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from agentrft.models.attention import causal_mask, grouped_attention

# On a CPU a batched product copies its operands where they are not dense, so that a part of a long row would be copied
# at every step; a few whole blocks are not. On a GPU it does not matter, and one product is quicker than several.
CPU_BLOCK_TOKENS = 64


class KVCache:
    """Keys and values of `slots` sequences of at most `max_tokens` tokens, in blocks of consecutive tokens.

    Shape per layer: [blocks, slots, kv_heads, block_tokens, head_dim]. Zeroed, because masked positions still enter
    the product with the values, where leftover NaNs would spread.
    """

    def __init__(
        self, *, layers: int, slots: int, kv_heads: int, max_tokens: int, head_dim: int, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.block_tokens = CPU_BLOCK_TOKENS if device.type == "cpu" else max_tokens
        shape = (_blocks(max_tokens, self.block_tokens), slots, kv_heads, self.block_tokens, head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.max_tokens = max_tokens

    def copy_prefix(self, source: int, target: int, tokens: int) -> None:
        """Copy the blocks of the first `tokens` positions of one slot to another."""
        blocks = _blocks(tokens, self.block_tokens)
        for cache in (*self.keys, *self.values):
            cache[:blocks, target] = cache[:blocks, source]


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
        positions = torch.tensor([c.offset + i for c in everything for i in range(c.length)], device=device)
        self._blocks, self._places = positions // cache.block_tokens, positions % cache.block_tokens
        self._masks = [causal_mask(c.length, c.offset + c.length, device) if c.length > 1 else None for c in chunks]
        if single:
            slots = [c.slot for c in single]
            self._first, self._last = min(slots), max(slots) + 1
            self._rows = torch.tensor([slot - self._first for slot in slots], device=device)
            longest = max(c.offset for c in single) + 1
            self._used_blocks = _blocks(longest, cache.block_tokens)
            self._width = cache.block_tokens if device.type == "cpu" else longest
            lengths = torch.zeros(self._last - self._first, dtype=torch.long, device=device)
            lengths[self._rows] = torch.tensor([c.offset + 1 for c in single], device=device)
            # Slots between the used ones are computed and thrown away; one visible key keeps their softmax finite.
            places = torch.arange(self._used_blocks * self._width, device=device)
            hidden = places >= lengths.clamp(min=1).unsqueeze(1)
            self._bias = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))[:, None, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `AttentionPlan.attend`; stores the new keys and values first."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._blocks, self._slots, :, self._places] = key.transpose(0, 1)
        values[self._blocks, self._slots, :, self._places] = value.transpose(0, 1)
        parts = []
        if self._single:
            parts.append(self._attend_single(query[:, : len(self._single)], keys, values, scaling))
        for chunk, mask in zip(self._chunks, self._masks, strict=True):
            own = query[:, chunk.start : chunk.start + chunk.length]
            seen = chunk.offset + chunk.length
            own_keys, own_values = _of_slot(keys, chunk.slot, seen), _of_slot(values, chunk.slot, seen)
            parts.append(grouped_attention(own, own_keys, own_values, scaling, mask))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_single(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        heads, rows, head_dim = query.shape
        kv_heads, slots = keys.shape[2], self._last - self._first
        window = query.new_zeros(slots, heads, head_dim)
        window[self._rows] = query.transpose(0, 1) * scaling
        grouped = window.view(slots, kv_heads, heads // kv_heads, head_dim)
        used = range(self._used_blocks)
        scores = [torch.matmul(grouped, self._of_block(keys, block).transpose(2, 3)) for block in used]
        weights = (torch.cat(scores, dim=-1) + self._bias).softmax(dim=-1).to(query.dtype)
        attended = torch.zeros_like(grouped)
        for block, part in zip(used, weights.split(self._width, dim=-1), strict=True):
            attended += torch.matmul(part, self._of_block(values, block))
        return attended.view(slots, heads, head_dim)[self._rows]

    def _of_block(self, cache: Tensor, block: int) -> Tensor:
        return cache[block, self._first : self._last, :, : self._width]


def _of_slot(cache: Tensor, slot: int, tokens: int) -> Tensor:
    """[kv_heads, tokens, head_dim] of one sequence."""
    blocks, _, kv_heads, block_tokens, head_dim = cache.shape
    used = cache[: _blocks(tokens, block_tokens), slot]
    return used.transpose(0, 1).reshape(kv_heads, -1, head_dim)[:, :tokens]


def _blocks(tokens: int, block_tokens: int) -> int:
    return -(-tokens // block_tokens)
