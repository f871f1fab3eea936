"""Who has which slot of the KV cache, and which prefixes in it can be used again."""

import asyncio
from collections import deque
from dataclasses import dataclass

from agentrft.engine.base import EngineFailure
from agentrft.engine.sequence import Sequence, common_prefix
from agentrft.models.lora import LoraAdapter

MIN_SHARED_TOKENS = 8


@dataclass(frozen=True)
class PrefixCopy:
    """Keys and values of positions [start, tokens) go from slot `source` to slot `target`, and the state there.

    `kept` says whether that is the source's kept state, rather than its live one.
    """

    source: int
    target: int
    start: int
    tokens: int
    kept: bool = False


@dataclass(frozen=True)
class _Computed:
    """What a slot has: keys and values of `tokens`, as `owner` computed them, and states of two positions of them.

    Attributes:
        kept: the position of the kept state, 0 without one.
        live: whether the live state is that after all of `tokens`.
    """

    owner: object
    tokens: list[int]
    kept: int
    live: bool

    @classmethod
    def of(cls, sequence: Sequence) -> "_Computed":
        tokens = sequence.tokens[: sequence.computed]
        return cls(sequence.owner, tokens, sequence.kept, not sequence.in_pass)


class SlotTable:
    """Slots are given in the order they are asked for; a slot that was given back keeps its prefix until it is reused.

    A prefix is used again only for the same adapter, or without one for the model itself: others compute other keys and
    values from the same tokens.

    Args:
        stateful: sequences have states, of which a slot has those of two positions only; a prefix is used again up to
            one of them.
        deterministic: give slots only while no sequence is between turns, and forget all prefixes whenever no
            sequence is open, so that who gets which slot does not depend on when the others give theirs back.

    Attributes:
        open: the sequences that have a slot, by slot.
    """

    def __init__(self, slots: int, *, deterministic: bool, stateful: bool = False) -> None:
        self.stateful = stateful
        self._deterministic = deterministic
        self._free = sorted(range(slots), reverse=True)
        self._waiting: deque[tuple[asyncio.Future[Sequence], LoraAdapter | None]] = deque()
        self._retained: dict[int, _Computed] = {}
        self._copies: list[PrefixCopy] = []
        self.open: dict[int, Sequence] = {}

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
        """Free the sequence's slot."""
        del self.open[sequence.slot]
        self._retained[sequence.slot] = _Computed.of(sequence)
        self._free.append(sequence.slot)
        self._free.sort(reverse=True)
        if self._deterministic and not self.open:
            self._retained.clear()
        self.grant()

    def grant(self) -> None:
        """Give free slots to those who wait, if this is a moment for it."""
        if self._deterministic and any(sequence.between_turns for sequence in self.open.values()):
            return
        while self._free and self._waiting:
            granted, adapter = self._waiting.popleft()
            if granted.done():
                continue
            sequence = Sequence(self._free.pop(), adapter)
            self.open[sequence.slot] = sequence
            granted.set_result(sequence)

    def refuse_waiting(self, failure: EngineFailure) -> None:
        """Fail everyone who waits for a slot."""
        while self._waiting:
            granted, _ = self._waiting.popleft()
            if not granted.done():
                granted.set_exception(failure)

    def forget_prefixes(self) -> None:
        """Nothing in the cache is valid for sequences to come."""
        self._retained.clear()

    def forget_prefix(self, slot: int) -> None:
        """What an earlier sequence left in this slot is not valid."""
        self._retained.pop(slot, None)

    def share_prefix(self, sequence: Sequence, ahead: list[Sequence]) -> int | None:
        """Plan to copy what another slot has already computed of the tokens that this sequence still needs.

        That is a group's prompt, and a tool's result where rollouts of a group made the same call. The copy is the next
        pass's to make, before it computes anything: see `take_copies`.

        Args:
            ahead: sequences that will be computed before this one.

        Returns:
            The tokens shared; None if one of `ahead` is about to compute more of them, worth waiting for.
        """
        wanted, have, owner = len(sequence.tokens) - 1, sequence.computed, sequence.owner
        best, donor, kept = have, sequence.slot, False
        own = [other for other in self.open.values() if other.owner is owner]
        retained = {slot: one for slot, one in self._retained.items() if one.owner is owner}
        computed = {other.slot: _Computed.of(other) for other in own if other.computed > have}
        for slot, one in (retained | computed).items():
            if len(one.tokens) <= have:
                continue
            shared = min(common_prefix(one.tokens, sequence.tokens), wanted)
            is_live = not self.stateful or (one.live and shared == len(one.tokens))
            usable = shared if is_live else one.kept if one.kept <= shared else 0
            if usable > best:
                best, donor, kept = usable, slot, not is_live
        coming = max((self._coming(other, sequence, wanted) for other in ahead if other.owner is owner), default=0)
        if coming >= max(best + 1, have + MIN_SHARED_TOKENS):
            return None
        if not have:
            self._retained.pop(sequence.slot, None)
        if best < have + MIN_SHARED_TOKENS:
            return 0
        if donor != sequence.slot or self.stateful:
            self._copies.append(PrefixCopy(donor, sequence.slot, have, best, kept))
        sequence.computed = best
        if self.stateful:
            sequence.kept = best
        return best - have

    def _coming(self, other: Sequence, sequence: Sequence, wanted: int) -> int:
        """How many of the tokens that `sequence` needs `other` is about to compute."""
        shared = min(common_prefix(other.tokens, sequence.tokens), wanted)
        if not self.stateful:
            return shared
        return other.fork_at if other.computed < other.fork_at <= shared else 0

    def take_copies(self) -> list[PrefixCopy]:
        """The copies planned since the last call, in the order in which they must be made."""
        copies, self._copies = self._copies, []
        return copies
