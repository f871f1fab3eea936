"""The engine's memory: one preallocated slot of keys and values per sequence, and attention over it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

from agentrft.models.attention import causal_mask, grouped_attention
from agentrft.models.attention_products import TILE_TOKENS, causal_attention, triangle
from agentrft.models.heads import heads_of
from agentrft.models.memory import LazyZeros
from agentrft.models.native import kernels_for

# On a CPU a batched product copies its operands where they are not dense, so that a part of a long row would be copied
# at every step; a few whole blocks are not. On a GPU it does not matter, and one product is quicker than several.
CPU_BLOCK_TOKENS = 64
# An unused slot in a product costs less than another call.
MAX_GAP = 16


class KVCache:
    """Keys and values of `slots` sequences of at most `max_tokens` tokens, in blocks of consecutive tokens.

    Shape per layer: [blocks, slots, kv_heads, block_tokens, head_dim]. Zeroed, because masked positions still enter
    the product with the values, where leftover NaNs would spread.
    """

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        kv_heads: int,
        max_tokens: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.block_tokens = CPU_BLOCK_TOKENS if device.type == "cpu" else max_tokens
        shape = (2, layers, _blocks(max_tokens, self.block_tokens), slots, kv_heads, self.block_tokens, head_dim)
        self._lazy = LazyZeros(shape, dtype) if device.type == "cpu" else None
        everything = torch.zeros(shape, dtype=dtype, device=device) if self._lazy is None else self._lazy.tensor
        self.keys, self.values = (list(half) for half in everything)
        self.max_tokens = max_tokens
        self.kernels = kernels_for(self.keys[0], head_dim)

    def clear(self) -> None:
        """Forget everything; a CPU's memory is given back until the cache is written to again."""
        if self._lazy is not None:
            self._lazy.clear()

    def copy_prefix(self, source: int, target: int, start: int, tokens: int) -> None:
        """Copy positions [start, tokens) from one slot to another, and with them the rest of their blocks.

        The positions before `start` must be the same in both.
        """
        blocks = slice(start // self.block_tokens, _blocks(tokens, self.block_tokens))
        for cache in (*self.keys, *self.values):
            cache[blocks, target] = cache[blocks, source]

    def wipe(self, slot: int, tokens: int) -> None:
        """Zero the first `tokens` positions of a slot, and the rest of their blocks."""
        for cache in (*self.keys, *self.values):
            cache[: _blocks(tokens, self.block_tokens), slot] = 0


def bytes_per_slot(config: PretrainedConfig, max_tokens: int, itemsize: int) -> int:
    """What one sequence of at most `max_tokens` takes in the cache."""
    _, kv_heads, head_dim = heads_of(config)
    tokens = _blocks(max_tokens, CPU_BLOCK_TOKENS) * CPU_BLOCK_TOKENS
    return 2 * config.num_hidden_layers * kv_heads * head_dim * itemsize * tokens


@dataclass(frozen=True)
class Chunk:
    """New tokens of one sequence: packed positions [start, start + length), context positions from `offset`."""

    slot: int
    start: int
    length: int
    offset: int


class CachedAttention:
    """Attention plan of one engine pass: single-token rows first, then chunks of several tokens."""

    def __init__(self, cache: KVCache, single: list[Chunk], chunks: list[Chunk]) -> None:
        self._cache = cache
        self._single = len(single)
        self._chunks = chunks
        device, dtype = cache.keys[0].device, cache.keys[0].dtype
        everything = [*single, *chunks]
        self._slots = torch.tensor([c.slot for c in everything for _ in range(c.length)], device=device)
        self._positions = torch.tensor([c.offset + i for c in everything for i in range(c.length)], device=device)
        self._on_cpu = device.type == "cpu"
        longest = max((c.length for c in chunks), default=0)
        if cache.kernels is not None and cache.kernels.has_dot:
            fields = [[c.slot for c in chunks], [c.start for c in chunks], [c.length for c in chunks]]
            self._fields = torch.tensor([*fields, [c.offset for c in chunks]], dtype=torch.long)
        elif self._on_cpu:
            self._bias = triangle(min(longest, TILE_TOKENS), dtype, device)
        else:
            self._masks = [causal_mask(c.length, c.offset + c.length, device) for c in chunks]
        if single and cache.kernels is None:
            self._decode = SingleTokens(cache, single)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `AttentionPlan.attend`; stores the new keys and values first."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        self._store(keys, values, key.transpose(0, 1), value.transpose(0, 1))
        out = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
        if self._single:
            out[: self._single] = self._attend_single(query[:, : self._single], keys, values, scaling)
        if self._chunks:
            self._attend_chunks(query, key, value, keys, values, scaling, out)
        return out

    def _attend_chunks(
        self, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, scaling: float, out: Tensor
    ) -> None:
        kernels = self._cache.kernels
        if kernels is not None and kernels.has_dot:
            kernels.attend_chunks(query.transpose(0, 1), keys, values, self._fields, scaling, out)
            return
        for index, chunk in enumerate(self._chunks):
            own = slice(chunk.start, chunk.start + chunk.length)
            if chunk.offset:
                seen = chunk.offset + chunk.length
                own_keys, own_values = _of_slot(keys, chunk.slot, seen), _of_slot(values, chunk.slot, seen)
            else:
                own_keys, own_values = key[:, own], value[:, own]
            if self._on_cpu:
                queries = query[:, own].transpose(0, 1)
                causal_attention(queries, own_keys, own_values, scaling, self._bias, kernels, out[own])
            else:
                out[own] = grouped_attention(query[:, own], own_keys, own_values, scaling, self._masks[index])

    def _store(self, keys: Tensor, values: Tensor, key: Tensor, value: Tensor) -> None:
        if self._cache.kernels is not None:
            self._cache.kernels.store(key, value, keys, values, self._slots, self._positions)
            return
        blocks, places = self._positions // self._cache.block_tokens, self._positions % self._cache.block_tokens
        keys[blocks, self._slots, :, places] = key
        values[blocks, self._slots, :, places] = value

    def _attend_single(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        if self._cache.kernels is None:
            return self._decode.attend(query, keys, values, scaling)
        slots, lengths = self._slots[: self._single], self._positions[: self._single] + 1
        return self._cache.kernels.attend(query.transpose(0, 1), keys, values, slots, lengths, scaling)


class SingleTokens:
    """Attention of one token of each of many sequences: grouped products over the slots, block by block.

    Nothing is gathered or expanded: neighbouring slots that reach into a block are one product, where they stand.
    """

    def __init__(self, cache: KVCache, single: list[Chunk]) -> None:
        device, dtype = cache.keys[0].device, cache.keys[0].dtype
        lengths = {chunk.slot: chunk.offset + 1 for chunk in single}
        self._first, self._last = min(lengths), max(lengths) + 1
        self._rows = torch.tensor([chunk.slot - self._first for chunk in single], device=device)
        longest = max(lengths.values())
        # On a GPU there is one block, of which no more than the longest sequence is read.
        self._width = min(cache.block_tokens, longest) if device.type != "cpu" else cache.block_tokens
        used_blocks = _blocks(longest, cache.block_tokens)
        self._pieces = [
            (block, first, last)
            for block in range(used_blocks)
            for first, last in _runs(sorted(s for s, length in lengths.items() if length > block * cache.block_tokens))
        ]
        counts = torch.ones(self._last - self._first, dtype=torch.long, device=device)
        counts[self._rows] = torch.tensor([lengths[chunk.slot] for chunk in single], device=device)
        # Slots between the used ones see one key, so that their softmax is finite; what comes of it is thrown away.
        hidden = torch.arange(used_blocks * self._width, device=device) >= counts.unsqueeze(1)
        bias = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
        self._bias = bias.view(len(hidden), used_blocks, self._width)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """[heads, sequences, head_dim] queries to [sequences, heads, head_dim]."""
        heads, _, head_dim = query.shape
        kv_heads, slots, (blocks, width) = keys.shape[2], self._last - self._first, self._bias.shape[1:]
        window = query.new_zeros(slots, heads, head_dim)
        window[self._rows] = query.transpose(0, 1) * scaling
        grouped = window.view(slots * kv_heads, heads // kv_heads, head_dim)
        # A block's scores stand together for the products, a token's for the softmax.
        scores = query.new_zeros(blocks, *grouped.shape[:2], width)
        for block, first, last in self._pieces:
            rows = self._rows_of(first, last, kv_heads)
            part = keys[block, first:last, :, :width].reshape(-1, width, head_dim)
            torch.bmm(grouped[rows], part.transpose(1, 2), out=scores[block, rows])
        of_tokens = scores.view(blocks, slots, heads, width).permute(1, 2, 0, 3) + self._bias.unsqueeze(1)
        weights = of_tokens.flatten(2).softmax(dim=-1).view_as(of_tokens).permute(2, 0, 1, 3).reshape_as(scores)
        attended = torch.zeros_like(grouped)
        for block, first, last in self._pieces:
            rows = self._rows_of(first, last, kv_heads)
            part = values[block, first:last, :, :width].reshape(-1, width, head_dim)
            attended[rows].baddbmm_(weights[block, rows], part)
        return attended.view(slots, heads, head_dim)[self._rows]

    def _rows_of(self, first: int, last: int, kv_heads: int) -> slice:
        return slice((first - self._first) * kv_heads, (last - self._first) * kv_heads)


def _runs(slots: list[int]) -> list[tuple[int, int]]:
    """Sorted slots as half-open ranges; gaps up to `MAX_GAP` slots are computed rather than skipped."""
    runs: list[tuple[int, int]] = []
    for slot in slots:
        if runs and slot - runs[-1][1] <= MAX_GAP:
            runs[-1] = (runs[-1][0], slot + 1)
        else:
            runs.append((slot, slot + 1))
    return runs


def _of_slot(cache: Tensor, slot: int, tokens: int) -> Tensor:
    """[kv_heads, tokens, head_dim] of one sequence."""
    blocks, _, kv_heads, block_tokens, head_dim = cache.shape
    used = cache[: _blocks(tokens, block_tokens), slot]
    return used.transpose(0, 1).reshape(kv_heads, -1, head_dim)[:, :tokens]


def _blocks(tokens: int, block_tokens: int) -> int:
    return -(-tokens // block_tokens)
