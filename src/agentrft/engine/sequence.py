"""One sequence inside the engine: what is in its context, what of that is computed, and the turn it waits for."""

import asyncio
import random
from dataclasses import dataclass, field

from agentrft.engine.base import Generation, Sampling


@dataclass
class TurnRequest:
    """A turn under way. `deadline` is in the event loop's clock."""

    sampling: Sampling
    future: asyncio.Future[Generation]
    deadline: float
    uniform: random.Random
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass
class Sequence:
    """A session's context in slot `slot`: keys and values of `tokens[:computed]` are in the cache.

    `epoch` counts restarts, so that a pass that was under way during one is not taken for the new context.
    """

    slot: int
    epoch: int = 0
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    request: TurnRequest | None = None

    @property
    def pending(self) -> int:
        """Tokens still to be computed before the next one can be sampled."""
        return len(self.tokens) - self.computed

    def restart(self) -> None:
        """Forget the context."""
        self.tokens, self.computed = [], 0
        self.epoch += 1


@dataclass(frozen=True)
class PassItem:
    """A sequence's share of one pass of the model: its next `length` tokens.

    `samples` is whether nothing is pending after them, so that a token is sampled.
    """

    sequence: Sequence
    length: int
    samples: bool
    epoch: int


def common_prefix(left: list[int], right: list[int]) -> int:
    """Length of the longest common prefix."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    low, high = 0, limit
    while low < high - 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
