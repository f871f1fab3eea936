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
    """Keys and values of positions [start, tokens) go from slot `source` to slot `target`."""

    source: int
    target: int
    start: int
    tokens: int


@dataclass(frozen=True)
class _Retained:
    """What a free slot still has: keys and values of `tokens`, as `owner` computed them."""

    owner: object
    tokens: list[int]


class SlotTable:
    """Slots are given in the order they are asked for; a slot that was given back keeps its prefix until it is reused.

    A prefix is used again only for the same adapter, or without one for the model itself: others compute other keys and
    values from the same tokens.

    Args:
        deterministic: give slots only while no sequence is between turns, and forget all prefixes whenever no
            sequence is open, so that who gets which slot does not depend on when the others give theirs back.

    Attributes:
        open: the sequences that have a slot, by slot.
    """

    def __init__(self, slots: int, *, deterministic: bool) -> None:
        self._deterministic = deterministic
        self._free = sorted(range(slots), reverse=True)
        self._waiting: deque[tuple[asyncio.Future[Sequence], LoraAdapter | None]] = deque()
        self._retained: dict[int, _Retained] = {}
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
        self._retained[sequence.slot] = _Retained(sequence.owner, sequence.tokens[: sequence.computed])
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
        best, donor = have, sequence.slot
        own = [other for other in self.open.values() if other.owner is owner]
        retained = {slot: kept.tokens for slot, kept in self._retained.items() if kept.owner is owner}
        computed = {other.slot: other.tokens[: other.computed] for other in own if other.computed > have}
        for slot, tokens in (retained | computed).items():
            shared = min(common_prefix(tokens, sequence.tokens), wanted) if len(tokens) > have else 0
            if shared > best:
                best, donor = shared, slot
        ahead = [other for other in ahead if other.owner is owner]
        coming = max((min(common_prefix(other.tokens, sequence.tokens), wanted) for other in ahead), default=0)
        if coming >= max(best + 1, have + MIN_SHARED_TOKENS):
            return None
        if not have:
            self._retained.pop(sequence.slot, None)
        if best < have + MIN_SHARED_TOKENS:
            return 0
        if donor != sequence.slot:
            self._copies.append(PrefixCopy(donor, sequence.slot, have, best))
        sequence.computed = best
        return best - have

    def take_copies(self) -> list[PrefixCopy]:
        """The copies planned since the last call, in the order in which they must be made."""
        copies, self._copies = self._copies, []
        return copies
