"""Which sequences the next pass computes, and how many tokens of each."""

import math
from collections import Counter
from collections.abc import Callable

from agentrft.engine.limits import EngineLimits
from agentrft.engine.pages import pages_of
from agentrft.engine.sequence import PassItem, Sequence
from agentrft.engine.slots import SlotTable


class PassSchedule:
    """Plans passes: the next token of every sequence that samples, and chunks of what the others have yet to compute.

    Args:
        slots: the sequences and their pages; planning takes pages, and takes them away from others.
        limits: sizes of passes.
        deterministic: plan only when every open session waits for a pass.
        counters: the engine's; tokens that others had computed are counted here (`prefix_tokens_shared`).
        warn: told once, where rollouts have to wait for pages or to be computed again.
    """

    def __init__(
        self,
        slots: SlotTable,
        limits: EngineLimits,
        *,
        deterministic: bool,
        counters: Counter[str],
        warn: Callable[[str], None],
    ) -> None:
        self._slots = slots
        self._limits = limits
        self._deterministic = deterministic
        self._counters = counters
        self._warn = warn
        self._warned = False

    def next_pass(self, now: float) -> list[PassItem]:
        """What the next pass computes, single tokens first; empty where nothing can go on.

        Args:
            now: the event loop's clock, for turns that begin or end to wait for pages.
        """
        if self._deterministic:
            self._slots.grant()
        sequences = self._slots.in_order()
        active = [s for s in sequences if s.waiting_turn is not None]
        if self._deterministic and len(active) < len(sequences):
            return []
        lengths, starved = self._lengths(active, now)
        if not lengths and starved:
            # Better to take pages of those whose tools run than to do nothing.
            self._slots.make_room(starved[0], len(starved[0].tokens), from_earlier=True)
            lengths, starved = self._lengths(active, now)
        if starved or self._slots.taken_from:
            self._warn_of_full_cache()
        self._slots.grant()
        # Those of the model alone first, then adapter by adapter: what stands together is computed together.
        lengths.sort(key=lambda entry: (entry[1] > 1, id(entry[0].adapter) if entry[0].adapter else 0))
        return [PassItem.plan(s, s.request, length) for s, length in lengths if s.request is not None]

    def _lengths(self, active: list[Sequence], now: float) -> tuple[list[tuple[Sequence, int]], list[Sequence]]:
        """How many tokens of which sequences the next pass computes, and which sequences there are no pages for."""
        decoding = {s.slot for s in active if s.pending == 1 and s.computed > 0}
        single: list[Sequence] = []
        chunks: list[tuple[Sequence, int]] = []
        starved: list[Sequence] = []
        ahead: list[Sequence] = []
        budget = self._limits.prefill_tokens_per_step
        places = 2 * self._limits.max_batch_size - min(len(decoding), self._limits.max_batch_size)
        # As many pages as somebody missed and did not get: who starts later does not get them either.
        refused: float = math.inf
        for sequence in active:
            turn, is_single = sequence.request, sequence.slot in decoding
            # Whoever started earlier may have taken pages from this one a moment ago.
            if turn is None or (is_single and sequence.pending != 1):
                continue
            if not is_single:
                if budget <= 0 or places <= 0:
                    continue
                shared = self._slots.share_prefix(sequence, ahead)
                if shared is None:
                    ahead.append(sequence)
                    continue
                self._counters["prefix_tokens_shared"] += shared
            missing = pages_of(len(sequence.tokens)) - len(sequence.pages)
            if missing >= refused or not self._slots.make_room(sequence, len(sequence.tokens)):
                refused = min(refused, missing)
                turn.starve(now)
                starved.append(sequence)
                continue
            turn.feed(now)
            if is_single:
                single.append(sequence)
                continue
            length = min(sequence.pending, budget)
            if self._slots.stateful and sequence.computed < sequence.fork_at:
                length = min(length, sequence.fork_at - sequence.computed)
            budget -= length
            places -= 1
            ahead.append(sequence)
            chunks.append((sequence, length))
        # Those who waited longest first: with more sequences than a batch takes, none is left behind.
        single.sort(key=lambda sequence: sequence.last_pass)
        return [*((s, 1) for s in single[: self._limits.max_batch_size]), *chunks], starved

    def _warn_of_full_cache(self) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                "the KV cache is full: some rollouts wait for others to end, or are computed again after their tools' "
                "answers; a larger engine.kv_cache_mb, or fewer engine.max_concurrent_rollouts, spares that"
            )
