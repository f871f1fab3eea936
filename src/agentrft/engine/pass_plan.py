"""One engine pass's context: attention over the KV cache, and recurrent layers over the state cache."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from agentrft.engine.kv_cache import KVCache, aligned, blocks_of
from agentrft.engine.state_cache import StateCache
from agentrft.models.attention import (
    PLAIN,
    ScoreRules,
    causal_mask,
    grouped_attention,
    ruled_attention,
    ruled_softmax,
    seen,
)
from agentrft.models.attention_products import TILE_TOKENS, causal_attention, triangle
from agentrft.models.native import Kernels
from agentrft.models.recurrence import Mixer, MixerStates, run_from

# An unused slot in a product costs less than another call.
MAX_GAP = 16


@dataclass(frozen=True)
class Chunk:
    """New tokens of one sequence: packed positions [start, start + length), context positions from `offset`."""

    slot: int
    start: int
    length: int
    offset: int


class PassPlan:
    """Context plan of one engine pass: single-token rows first, then chunks of several tokens."""

    def __init__(self, cache: KVCache, states: StateCache, single: list[Chunk], chunks: list[Chunk]) -> None:
        self._cache = cache
        self._states = states
        self._single = single
        self._chunks = chunks
        self._device = states.device
        everything = [*single, *chunks]
        index = partial(torch.tensor, dtype=torch.long, device=self._device)
        self._slots = index([c.slot for c in everything for _ in range(c.length)])
        self._positions = index([c.offset + i for c in everything for i in range(c.length)])
        # Where each row's key and value go: block, slot and place in the block.
        self._places = self._positions // cache.block_tokens, self._slots, self._positions % cache.block_tokens
        self._on_cpu = self._device.type == "cpu"

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules = PLAIN
    ) -> Tensor:
        """See `ContextPlan.attend`; stores the new keys and values first."""
        rules = rules.within(self._cache.max_tokens)
        keys, values, kernels = self._cache.keys[layer], self._cache.values[layer], self._cache.kernels[layer]
        self._store(keys, values, key.transpose(0, 1), value.transpose(0, 1), kernels)
        out = query.new_empty(query.shape[1], query.shape[0], value.shape[2])
        singles = len(self._single)
        if self._single:
            out[:singles] = self._attend_single(query[:, :singles], keys, values, scaling, rules, kernels)
        if self._chunks and not rules.plain:
            self._attend_chunks_by_rules(query, keys, values, scaling, rules, out)
        elif self._chunks:
            self._attend_chunks(query, key, value, keys, values, scaling, kernels, out)
        return out

    def recur(self, mixer: Mixer, hidden: Tensor) -> Tensor:
        """See `ContextPlan.recur`; keeps the states that the rows end with."""
        singles, parts = len(self._single), []
        if self._single:
            # All of them as one batch, whose states modules may change in place.
            states = MixerStates(self._states.take(mixer.index, self._single_slots), in_place=True)
            batch = hidden[0, :singles].unsqueeze(1)
            parts.append(mixer.run(batch, states).transpose(0, 1))
            self._states.put(mixer.index, self._single_slots, states.states)
        for chunk in self._chunks:
            slot = [chunk.slot]
            begin = self._states.take(mixer.index, slot) if chunk.offset else {}
            part, ended = run_from(mixer, hidden[:, chunk.start : chunk.start + chunk.length], begin)
            self._states.put(mixer.index, slot, ended)
            parts.append(part)
        return torch.cat(parts, dim=1)

    @cached_property
    def _single_slots(self) -> list[int]:
        return [chunk.slot for chunk in self._single]

    @cached_property
    def _decode(self) -> "SingleTokens":
        return SingleTokens(self._cache.block_tokens, self._single, self._device)

    @cached_property
    def _fields(self) -> Tensor:
        chunks = self._chunks
        fields = [[c.slot for c in chunks], [c.start for c in chunks], [c.length for c in chunks]]
        return torch.tensor([*fields, [c.offset for c in chunks]], dtype=torch.long)

    @cached_property
    def _bias(self) -> Tensor:
        longest = max(chunk.length for chunk in self._chunks)
        return triangle(min(longest, TILE_TOKENS), self._cache.dtype, self._device)

    @cached_property
    def _masks(self) -> list[Tensor]:
        return [causal_mask(c.length, c.offset + c.length, self._device) for c in self._chunks]

    def _attend_chunks(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        kernels: Kernels | None,
        out: Tensor,
    ) -> None:
        if kernels is not None and kernels.has_dot:
            kernels.attend_chunks(query.transpose(0, 1), keys, values, self._fields, scaling, out)
            return
        for index, chunk in enumerate(self._chunks):
            own = slice(chunk.start, chunk.start + chunk.length)
            if chunk.offset:
                seen_tokens = chunk.offset + chunk.length
                own_keys, own_values = (
                    _of_slot(keys, chunk.slot, seen_tokens),
                    _of_slot(values, chunk.slot, seen_tokens),
                )
            else:
                own_keys, own_values = key[:, own], value[:, own]
            if self._on_cpu and key.shape[2] == value.shape[2]:
                queries = query[:, own].transpose(0, 1)
                causal_attention(queries, own_keys, own_values, scaling, self._bias, kernels, out[own])
            else:
                out[own] = grouped_attention(query[:, own], own_keys, own_values, scaling, self._masks[index])

    def _attend_chunks_by_rules(
        self, query: Tensor, keys: Tensor, values: Tensor, scaling: float, rules: ScoreRules, out: Tensor
    ) -> None:
        for chunk in self._chunks:
            total = chunk.offset + chunk.length
            own_keys, own_values = _of_slot(keys, chunk.slot, total), _of_slot(values, chunk.slot, total)
            for start in range(0, chunk.length, TILE_TOKENS):
                end = min(start + TILE_TOKENS, chunk.length)
                first = 0 if rules.window is None else max(0, chunk.offset + start - rules.window + 1)
                visible = slice(first, chunk.offset + end)
                positions = torch.arange(first, chunk.offset + end, device=self._device)
                mask = seen(positions[start - end :], positions, rules.window)
                rows = slice(chunk.start + start, chunk.start + end)
                out[rows] = ruled_attention(
                    query[:, rows], own_keys[:, visible], own_values[:, visible], scaling, mask, rules
                )

    def _store(self, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, kernels: Kernels | None) -> None:
        if kernels is not None:
            kernels.store(key, value, keys, values, self._slots, self._positions)
            return
        blocks, slots, places = self._places
        keys[blocks, slots, :, places] = key
        values[blocks, slots, :, places] = value

    def _attend_single(
        self, query: Tensor, keys: Tensor, values: Tensor, scaling: float, rules: ScoreRules, kernels: Kernels | None
    ) -> Tensor:
        if kernels is None or not rules.plain:
            return self._decode.attend(query, keys, values, scaling, rules)
        slots, lengths = self._slots[: len(self._single)], self._positions[: len(self._single)] + 1
        return kernels.attend(query.transpose(0, 1), keys, values, slots, lengths, scaling)


class SingleTokens:
    """Attention of one token of each of many sequences: grouped products over the slots, block by block.

    Nothing is gathered or expanded: neighbouring slots that reach into a block are one product, where they stand.
    """

    def __init__(self, block_tokens: int, single: list[Chunk], device: torch.device) -> None:
        self._device = device
        self._lengths = {chunk.slot: chunk.offset + 1 for chunk in single}
        self._first, self._last = min(self._lengths), max(self._lengths) + 1
        self._rows = torch.tensor([chunk.slot - self._first for chunk in single], device=device)
        longest = max(self._lengths.values())
        # On a GPU there is one block, of which little more than the longest sequence is read.
        self._width = aligned(longest) if device.type != "cpu" else block_tokens
        self._used_blocks = blocks_of(longest, block_tokens)
        reaching = [
            sorted(slot for slot, length in self._lengths.items() if length > block * block_tokens)
            for block in range(self._used_blocks)
        ]
        self._pieces = [(block, first, last) for block, slots in enumerate(reaching) for first, last in _runs(slots)]
        self._biases: dict[tuple[int | None, torch.dtype], Tensor] = {}

    def _bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[slots, blocks, width] added to scores: -inf at what a sequence's last token does not see."""
        if (window, dtype) not in self._biases:
            # Slots between the used ones see one key, so that their softmax is finite; what comes of it is thrown away.
            counts = torch.ones(self._last - self._first, 1, dtype=torch.long, device=self._device)
            counts[self._rows, 0] = torch.tensor(list(self._lengths.values()), device=self._device)
            places = torch.arange(self._used_blocks * self._width, device=self._device)
            hidden = places >= counts
            if window is not None:
                hidden |= places < counts - window
            bias = torch.zeros(hidden.shape, dtype=dtype, device=self._device).masked_fill_(hidden, float("-inf"))
            self._biases[window, dtype] = bias.view(len(hidden), self._used_blocks, self._width)
        return self._biases[window, dtype]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float, rules: ScoreRules) -> Tensor:
        """[heads, sequences, key_dim] queries to [sequences, heads, value_dim]."""
        heads, _, key_dim = query.shape
        kv_heads, slots, value_dim = keys.shape[2], self._last - self._first, values.shape[4]
        blocks, width = self._used_blocks, self._width
        window = query.new_zeros(slots, heads, key_dim)
        window[self._rows] = query.transpose(0, 1) * scaling
        grouped = window.view(slots * kv_heads, heads // kv_heads, key_dim)
        # A block's scores stand together for the products, a token's for the softmax.
        scores = query.new_zeros(blocks, *grouped.shape[:2], width)
        for block, first, last in self._pieces:
            rows = self._rows_of(first, last, kv_heads)
            part = keys[block, first:last, :, :width].reshape(-1, width, key_dim)
            torch.bmm(grouped[rows], part.transpose(1, 2), out=scores[block, rows])
        of_tokens = scores.view(blocks, slots, heads, width).permute(1, 2, 0, 3)
        bias = self._bias(rules.window, query.dtype).unsqueeze(1)
        if rules.softcap is None and rules.sinks is None:
            weights = (of_tokens + bias).flatten(2).softmax(dim=-1)
        else:
            by_head = of_tokens.flatten(2).transpose(0, 1)
            weights = ruled_softmax(by_head, bias.flatten(2).squeeze(1), rules, rules.sinks).transpose(0, 1)
        weights = weights.reshape(of_tokens.shape).permute(2, 0, 1, 3).reshape_as(scores)
        attended = query.new_zeros(*grouped.shape[:2], value_dim)
        for block, first, last in self._pieces:
            rows = self._rows_of(first, last, kv_heads)
            part = values[block, first:last, :, :width].reshape(-1, width, value_dim)
            attended[rows].baddbmm_(weights[block, rows], part)
        return attended.view(slots, heads, value_dim)[self._rows]

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
    used = cache[: blocks_of(tokens, block_tokens), slot]
    return used.transpose(0, 1).reshape(kv_heads, -1, head_dim)[:, :tokens]
