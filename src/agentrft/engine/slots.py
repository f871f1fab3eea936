"""Who has which slot and which pages of the KV cache, and which prefixes in it can be used again."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agentrft.engine.base import EngineFailure
from agentrft.engine.pages import PAGE_TOKENS, PagePool, pages_of
from agentrft.engine.sequence import Sequence, common_prefix
from agentrft.models.lora import LoraAdapter

MIN_SHARED_TOKENS = 8


@dataclass(frozen=True)
class Copies:
    """What a pass has to copy or to wipe before it computes anything; wiping comes first.

    Attributes:
        wiped_pages, wiped_slots: of the KV cache, and of the state cache.
        pages: from and to, in the order in which they must be copied.
        states: from slot and to slot, and whether it is the kept state rather than the live one.
    """

    wiped_pages: set[int]
    wiped_slots: set[int]
    pages: list[tuple[int, int]]
    states: list[tuple[int, int, bool]]


@dataclass
class _Prefix:
    """Keys and values of `tokens` in `pages`, as `owner` computed them, and states of two positions of them.

    Attributes:
        kept: the position of the kept state, 0 without one.
        live: whether the live state is that after all of `tokens`.
        last_pass: in which it was computed or shared.
    """

    owner: object
    tokens: list[int]
    pages: list[int]
    kept: int
    live: bool
    last_pass: int

    @classmethod
    def of(cls, sequence: Sequence) -> "_Prefix":
        tokens, pages = sequence.tokens[: sequence.computed], sequence.pages[: pages_of(sequence.computed)]
        return cls(sequence.owner, tokens, pages, sequence.kept, not sequence.in_pass, sequence.last_pass)


class SlotTable:
    """Slots are given in the order they are asked for. A slot that was given back keeps its prefix until it is reused,
    or until its pages are needed.

    Whoever started earlier has the first claim to pages: where none is free, they are taken from prefixes of closed
    sequences, the least recently used first, then from sequences that started later, from their ends. What was taken is
    computed again. So the sequence that started first always goes on. Nobody gets a slot while others wait for pages.

    A prefix is used again only for the same adapter, or without one for the model itself: others compute other keys and
    values from the same tokens. Its whole pages are shared, and the last one, if it is not full, is copied.

    Args:
        slots: sequences that can be open at once.
        pages: of the KV cache; at least as many as the longest sequence takes.
        stateful: sequences have states, of which a slot has those of two positions only; a prefix is used again up to
            one of them.
        deterministic: give slots only while no sequence is between turns, and forget all prefixes whenever no
            sequence is open, so that who gets which slot does not depend on when the others give theirs back. There
            must be pages enough for all of them at their longest.

    Attributes:
        open: the sequences that have a slot, by slot.
        pool: the pages.
        taken_from: how often pages were taken from an open sequence.
    """

    def __init__(self, slots: int, pages: int, *, deterministic: bool, stateful: bool = False) -> None:
        self.stateful = stateful
        self._deterministic = deterministic
        self._free = list(range(slots))
        self._waiting: deque[tuple[asyncio.Future[Sequence], LoraAdapter | None]] = deque()
        self._retained: dict[int, _Prefix] = {}
        self._copies = Copies(set(), set(), [], [])
        self._started = 0
        self._passes = 0
        self.open: dict[int, Sequence] = {}
        self.pool = PagePool(pages)
        self.taken_from = 0

    async def take(self, adapter: LoraAdapter | None = None) -> Sequence:
        """Wait for a free slot, for a sequence of this adapter.

        Raises:
            EngineFailure: `refuse_waiting` was called meanwhile.
        """
        granted: asyncio.Future[Sequence] = asyncio.get_running_loop().create_future()
        self._waiting.append((granted, adapter))
        self.grant()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.give_back(granted.result())
            raise

    def give_back(self, sequence: Sequence) -> None:
        """Free the sequence's slot, and the pages in which nothing is computed."""
        del self.open[sequence.slot]
        prefix = _Prefix.of(sequence)
        self._forget_prefix(sequence.slot)
        self.pool.give_back(sequence.pages[len(prefix.pages) :])
        sequence.pages = []
        self._retained[sequence.slot] = prefix
        self._free.append(sequence.slot)
        if self._deterministic and not self.open:
            self.forget_prefixes()
        self.grant()

    def grant(self) -> None:
        """Give free slots to those who wait, if this is a moment for it."""
        if self._deterministic and any(sequence.between_turns for sequence in self.open.values()):
            return
        if any(turn.starved_since is not None for s in self.open.values() if (turn := s.waiting_turn) is not None):
            return
        while self._free and self._waiting:
            granted, adapter = self._waiting.popleft()
            if granted.done():
                continue
            # One without a prefix, or whose prefix nobody used for longest.
            slot = min(self._free, key=self._last_pass)
            self._free.remove(slot)
            self._started += 1
            self.open[slot] = sequence = Sequence(slot, adapter, self._started)
            granted.set_result(sequence)

    def _last_pass(self, slot: int) -> tuple[int, int]:
        return (self._retained[slot].last_pass if slot in self._retained else -1, slot)

    def refuse_waiting(self, failure: EngineFailure) -> None:
        """Fail everyone who waits for a slot."""
        while self._waiting:
            granted, _ = self._waiting.popleft()
            if not granted.done():
                granted.set_exception(failure)

    def in_order(self) -> list[Sequence]:
        """The open sequences, the one that started first before the others."""
        return sorted(self.open.values(), key=lambda sequence: sequence.started)

    def forget_prefixes(self) -> None:
        """Nothing in the cache is valid for sequences to come."""
        for slot in list(self._retained):
            self._forget_prefix(slot)

    def compute_all_anew(self) -> None:
        """Nothing that was computed is valid any more, neither for open sequences nor for those to come."""
        self.forget_prefixes()
        for sequence in self.open.values():
            self.compute_anew(sequence)
        self._copies.pages.clear()
        self._copies.states.clear()

    def restart(self, sequence: Sequence) -> None:
        """Let the sequence forget its context."""
        self._empty(sequence)
        sequence.forget()

    def compute_anew(self, sequence: Sequence) -> None:
        """Nothing of what was computed for this sequence is to be relied on."""
        sequence.lost = max(sequence.lost, sequence.computed)
        self._empty(sequence)
        sequence.computed, sequence.kept = 0, 0
        sequence.epoch += 1

    def spoil(self, slot: int, pages: Iterable[int]) -> None:
        """Nobody may go on from these pages, or from the states of the slot; whoever shares them computes them anew."""
        spoiled = set(pages)
        for other, prefix in list(self._retained.items()):
            if other == slot or not spoiled.isdisjoint(prefix.pages):
                self._forget_prefix(other)
        for sequence in self.open.values():
            if not spoiled.isdisjoint(sequence.pages):
                self.compute_anew(sequence)
        self._copies.wiped_pages.update(spoiled)
        self._copies.wiped_slots.add(slot)

    def make_room(self, sequence: Sequence, tokens: int, *, from_earlier: bool = False) -> bool:
        """Take the pages that the sequence lacks for its first `tokens` tokens: all of them, or none.

        Args:
            from_earlier: take them even from sequences that started earlier, as long as they are between turns.

        Returns:
            Whether it has them.
        """
        missing = pages_of(tokens) - len(sequence.pages)
        if missing > self.pool.free:
            spare: list[_Prefix | Sequence] = [
                self._retained[slot] for slot in sorted(self._retained, key=self._last_pass)
            ]
            later = [
                s for s in self.open.values() if s.started > sequence.started or (from_earlier and s.between_turns)
            ]
            # Those between turns first: they may have something to wait for.
            spare += sorted((s for s in later if s is not sequence), key=lambda s: (not s.between_turns, -s.started))
            if missing > self.pool.free + self.pool.freed_by(one.pages for one in spare):
                return False
            for one in spare:
                self._shorten(one, missing)
        if missing > 0:
            sequence.pages += self.pool.take(missing)
        return True

    def _shorten(self, one: "_Prefix | Sequence", wanted_free: int) -> None:
        """Take pages from the end of a prefix or a sequence until so many are free."""
        before = len(one.pages)
        while one.pages and self.pool.free < wanted_free:
            self.pool.give_back([one.pages.pop()])
        if len(one.pages) == before:
            return
        if self.stateful:
            # There is no state of where it now ends.
            self.pool.give_back(one.pages)
            one.pages, one.kept = [], 0
        left = len(one.pages) * PAGE_TOKENS
        if isinstance(one, Sequence):
            one.lost = max(one.lost, one.computed)
            one.computed = min(one.computed, left)
            self.taken_from += 1
        else:
            del one.tokens[left:]

    def share_prefix(self, sequence: Sequence, ahead: list[Sequence]) -> int | None:
        """Let the sequence have what others have already computed of the tokens that it still needs.

        That is a group's prompt, and a tool's result where rollouts of a group made the same call. What has to be
        copied is the next pass's to copy, before it computes anything: see `take_copies`.

        Args:
            ahead: sequences that will be computed before this one.

        Returns:
            The tokens shared; None if one of `ahead` is about to compute more of them, worth waiting for.
        """
        wanted, have, owner = len(sequence.tokens) - 1, sequence.computed, sequence.owner
        best, donor, kept = have, None, False
        for slot, one in self._prefixes_of(owner, sequence.tokens, have):
            shared = min(common_prefix(one.tokens, sequence.tokens), wanted)
            is_live = not self.stateful or (one.live and shared == len(one.tokens))
            usable = shared if is_live else one.kept if one.kept <= shared else 0
            if usable > best:
                best, donor, kept = usable, (slot, one), not is_live
        coming = max((self._coming(other, sequence, wanted) for other in ahead if other.owner is owner), default=0)
        if coming >= max(best + 1, have + MIN_SHARED_TOKENS):
            return None
        shared = 0
        if donor is not None and best >= have + MIN_SHARED_TOKENS and self._have_pages(sequence, donor[1].pages, best):
            shared = best - have
            donor[1].last_pass = self._passes + 1
            sequence.computed = best
            if self.stateful:
                self._copies.states.append((donor[0], sequence.slot, kept))
                sequence.kept = best
        if not have:
            self._forget_prefix(sequence.slot)
        return shared

    def _prefixes_of(self, owner: object, tokens: list[int], have: int) -> Iterator[tuple[int, _Prefix]]:
        """What has been computed for this owner, where it may go on from the first `have` tokens as these do."""
        # A look at one token spares most of the others.
        for slot, prefix in sorted(self._retained.items()):
            if prefix.owner is owner and len(prefix.tokens) > have and prefix.tokens[have] == tokens[have]:
                yield slot, prefix
        for other in self.in_order():
            if other.owner is owner and other.computed > have and other.tokens[have] == tokens[have]:
                yield other.slot, _Prefix.of(other)

    def _have_pages(self, sequence: Sequence, pages: list[int], tokens: int) -> bool:
        """Let the sequence have the first `tokens` of these pages, those of them that it has not: whether it can."""
        own, whole = sequence.computed // PAGE_TOKENS, tokens // PAGE_TOKENS
        replaced = sequence.pages[own:]
        # Held before room is made, so that they are not what is given up for it; the one to be copied only meanwhile.
        held = pages[own : pages_of(tokens)]
        self.pool.share(held)
        sequence.pages[own:] = held[: whole - own]
        copied = held[whole - own :]
        has_room = not copied or self.make_room(sequence, tokens)
        if has_room:
            self._copies.pages.extend((source, sequence.pages[whole]) for source in copied)
            self.pool.give_back([*copied, *replaced])
        else:
            sequence.pages[own:] = replaced
            self.pool.give_back(held)
        return has_room

    def _coming(self, other: Sequence, sequence: Sequence, wanted: int) -> int:
        """How many of the tokens that `sequence` needs `other` is about to compute."""
        shared = min(common_prefix(other.tokens, sequence.tokens), wanted)
        if not self.stateful:
            return shared
        return other.fork_at if other.computed < other.fork_at <= shared else 0

    def take_copies(self) -> Copies:
        """What is to be copied and wiped since the last call, which is for each pass."""
        copies, self._copies = self._copies, Copies(set(), set(), [], [])
        self._passes += 1
        return copies

    def _empty(self, sequence: Sequence) -> None:
        self.pool.give_back(sequence.pages)
        sequence.pages = []

    def _forget_prefix(self, slot: int) -> None:
        """What an earlier sequence left in this slot is not valid."""
        prefix = self._retained.pop(slot, None)
        if prefix is not None:
            self.pool.give_back(prefix.pages)
