"""One engine pass's context: attention over the KV cache, and recurrent layers over the state cache."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from agentrft.engine.kv_cache import KVCache
from agentrft.engine.pages import PAGE_TOKENS, pages_of
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
from agentrft.models.native import CacheKernels
from agentrft.models.recurrence import Mixer, MixerStates, run_from


@dataclass(frozen=True)
class Chunk:
    """New tokens of one sequence: packed positions [start, start + length), context positions from `offset`.

    `pages` are those of the context up to the last of them.
    """

    slot: int
    start: int
    length: int
    offset: int
    pages: list[int]


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
        positions = [c.offset + i for c in everything for i in range(c.length)]
        self._positions = index(positions)
        # Where each row's key and value go.
        tokens = ((c, c.offset + i) for c in everything for i in range(c.length))
        self._page = index([c.pages[position // PAGE_TOKENS] for c, position in tokens])
        self._place = index([position % PAGE_TOKENS for position in positions])
        # Those of shorter sequences are filled up with their own last page, so that what one has meets no other.
        most = max(len(c.pages) for c in everything)
        table = index([c.pages + c.pages[-1:] * (most - len(c.pages)) for c in everything])
        self._tables = table[: len(single)], table[len(single) :]
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
            out[:singles] = self._attend_single(layer, query[:, :singles], scaling, rules)
        if self._chunks and not rules.plain:
            self._attend_chunks_by_rules(query, keys, values, scaling, rules, kernels, out)
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
        # What a CPU gathered is still in its cache when it is multiplied; a GPU waits for kernels to be started.
        at_once = 1 if self._on_cpu else self._tables[0].shape[1]
        return SingleTokens(self._single, self._tables[0], at_once)

    @cached_property
    def _fields(self) -> Tensor:
        chunks = self._chunks
        fields = [[c.start for c in chunks], [c.length for c in chunks], [c.offset for c in chunks]]
        return torch.tensor(fields, dtype=torch.long)

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
        kernels: CacheKernels | None,
        out: Tensor,
    ) -> None:
        if kernels is not None and kernels.attends_chunks:
            queries = query.transpose(0, 1)
            kernels.attend_chunks(queries, keys, values, self._tables[1], self._fields, scaling, out)
            return
        softmax = None if kernels is None else kernels.bfloat16
        for index, chunk in enumerate(self._chunks):
            own = slice(chunk.start, chunk.start + chunk.length)
            if chunk.offset:
                own_keys, own_values = self._gathered(index, keys, kernels), self._gathered(index, values, kernels)
            else:
                own_keys, own_values = key[:, own], value[:, own]
            if self._on_cpu and key.shape[2] == value.shape[2]:
                queries = query[:, own].transpose(0, 1)
                causal_attention(queries, own_keys, own_values, scaling, self._bias, softmax, out[own])
            else:
                out[own] = grouped_attention(query[:, own], own_keys, own_values, scaling, self._masks[index])

    def _attend_chunks_by_rules(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        rules: ScoreRules,
        kernels: CacheKernels | None,
        out: Tensor,
    ) -> None:
        for index, chunk in enumerate(self._chunks):
            own_keys, own_values = self._gathered(index, keys, kernels), self._gathered(index, values, kernels)
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

    def _gathered(self, index: int, cache: Tensor, kernels: CacheKernels | None) -> Tensor:
        """[kv_heads, tokens, head_dim] of a chunk's whole context."""
        chunk = self._chunks[index]
        pages = self._tables[1][index, : len(chunk.pages)]
        if kernels is not None:
            together = kernels.gather(cache, pages)
        else:
            together = cache[pages].transpose(0, 1).flatten(1, 2)
        return together[:, : chunk.offset + chunk.length]

    def _store(self, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, kernels: CacheKernels | None) -> None:
        if kernels is not None:
            kernels.store(key, value, keys, values, self._page, self._place)
            return
        keys[self._page, :, self._place] = key
        values[self._page, :, self._place] = value

    def _attend_single(self, layer: int, query: Tensor, scaling: float, rules: ScoreRules) -> Tensor:
        keys, values, in_place = self._cache.keys[layer], self._cache.values[layer], self._cache.decode[layer]
        if in_place is None or not rules.plain:
            return self._decode.attend(query, keys, values, scaling, rules)
        return in_place(query.transpose(0, 1), keys, values, self._tables[0], self._seen, scaling)

    @cached_property
    def _seen(self) -> Tensor:
        """How many keys each single token sees."""
        return self._positions[: len(self._single)] + 1


class SingleTokens:
    """Attention of one token of each of many sequences: grouped products over gathered pages.

    No head is expanded.

    Args:
        table: pages of each, [sequences, most pages].
        at_once: pages of each sequence that are gathered and multiplied together.
    """

    def __init__(self, single: list[Chunk], table: Tensor, at_once: int) -> None:
        self._device = table.device
        lengths = [chunk.offset + 1 for chunk in single]
        # The longest first: those that reach into a page are then the first ones.
        order = sorted(range(len(single)), key=lambda row: -lengths[row])
        self._order = torch.tensor(order, device=self._device)
        self._lengths = torch.tensor([lengths[row] for row in order], device=self._device)
        table = table[self._order]
        self._pages = pages_of(max(lengths))
        self._pieces = [
            (sum(length > first * PAGE_TOKENS for length in lengths), slice(first, min(first + at_once, self._pages)))
            for first in range(0, self._pages, at_once)
        ]
        self._tables = [table[:rows, pages].contiguous() for rows, pages in self._pieces]
        self._biases: dict[tuple[int | None, torch.dtype], Tensor] = {}

    def _bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[sequences, tokens of pages] added to scores: -inf at what a sequence's last token does not see."""
        if (window, dtype) not in self._biases:
            counts = self._lengths.unsqueeze(1)
            places = torch.arange(self._pages * PAGE_TOKENS, device=self._device)
            hidden = places >= counts
            if window is not None:
                hidden |= places < counts - window
            self._biases[window, dtype] = torch.zeros(hidden.shape, dtype=dtype, device=self._device).masked_fill_(
                hidden, float("-inf")
            )
        return self._biases[window, dtype]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float, rules: ScoreRules) -> Tensor:
        """[heads, sequences, key_dim] queries to [sequences, heads, value_dim]."""
        heads, sequences, key_dim = query.shape
        kv_heads, value_dim = keys.shape[1], values.shape[3]
        grouped = (query.transpose(0, 1)[self._order] * scaling).view(sequences, 1, kv_heads, -1, key_dim)
        scores = query.new_zeros(sequences, self._pages, kv_heads, heads // kv_heads, PAGE_TOKENS)
        for (rows, pages), table in zip(self._pieces, self._tables, strict=True):
            scores[:rows, pages] = grouped[:rows] @ keys[table].transpose(3, 4)
        # A page's scores stand together for the products, a token's for the softmax.
        of_tokens = scores.permute(2, 3, 0, 1, 4).reshape(heads, sequences, -1)
        weights = ruled_softmax(of_tokens, self._bias(rules.window, query.dtype), rules, rules.sinks)
        weights = weights.view(kv_heads, -1, sequences, self._pages, PAGE_TOKENS).permute(2, 3, 0, 1, 4)
        attended = query.new_zeros(sequences, kv_heads, heads // kv_heads, value_dim, dtype=torch.float32)
        for (rows, pages), table in zip(self._pieces, self._tables, strict=True):
            attended[:rows] += (weights[:rows, pages] @ values[table]).sum(dim=1, dtype=torch.float32)
        out = query.new_empty(sequences, heads, value_dim)
        out[self._order] = attended.view(sequences, heads, value_dim).to(query.dtype)
        return out
