"""One sequence inside the engine: what is in its context, what of that is computed, and the turn it waits for."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Literal

from agentrft.engine.base import Generation, Sampling
from agentrft.engine.pages import pages_of
from agentrft.models.lora import LoraAdapter


@dataclass
class TurnRequest:
    """A turn under way. `deadline` is in the event loop's clock, as is the time since when it waits for pages.

    The wait for pages is one for other rollouts, as that for a slot is, and does not count towards the deadline.
    `versions` are spans of [policy version, tokens sampled by it].
    """

    sampling: Sampling
    future: asyncio.Future[Generation]
    deadline: float
    uniform: random.Random
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[list[int]] = field(default_factory=list)
    starved_since: float | None = None

    def add(self, token: int, logprob: float, version: int) -> None:
        """A token that this version of the policy sampled."""
        self.sampled.append(token)
        self.logprobs.append(logprob)
        if not self.versions or self.versions[-1][0] != version:
            self.versions.append([version, 0])
        self.versions[-1][1] += 1

    def generation(self, reason: Literal["stop", "length"]) -> Generation:
        """The finished turn."""
        spans = self.versions if len(self.versions) > 1 else []
        return Generation(self.sampled, self.logprobs, reason, self.versions[0][0], spans)

    def starve(self, now: float) -> None:
        """It needs pages that there are none of."""
        if self.starved_since is None:
            self.starved_since = now

    def feed(self, now: float) -> None:
        """It has the pages that it needs."""
        if self.starved_since is not None:
            self.deadline += now - self.starved_since
            self.starved_since = None


@dataclass
class Sequence:
    """A session's context in slot `slot`: keys and values of `tokens[:computed]` are in `pages`, in this order.

    `started` numbers sequences in the order in which they were opened. `last_pass` numbers the engine's pass that it
    was last in, `in_pass` says whether that is under way. `epoch` counts restarts, so that a pass that was under way
    during one is not taken for the new context. `adapter` computes it on top of the model, None for the model alone.
    `fork_at` is where its prompt ends but for one token: others with the same prompt can begin there; `kept` is the
    position of which the state cache has a copy, 0 without one. `lost` is how many tokens were computed when pages were
    taken from it.
    """

    slot: int
    adapter: LoraAdapter | None = None
    started: int = 0
    epoch: int = 0
    last_pass: int = 0
    in_pass: bool = False
    fork_at: int = 0
    kept: int = 0
    lost: int = 0
    tokens: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    computed: int = 0
    request: TurnRequest | None = None

    @property
    def pending(self) -> int:
        """Tokens still to be computed before the next one can be sampled."""
        return len(self.tokens) - self.computed

    @property
    def owner(self) -> object:
        """Whose keys and values these are: the adapter's, or None for the model's own."""
        return None if self.adapter is None else self.adapter.owner

    @property
    def waiting_turn(self) -> TurnRequest | None:
        """The turn that it waits for, None where it waits for none."""
        return self.request if self.request is not None and not self.request.future.done() else None

    @property
    def between_turns(self) -> bool:
        """Whether it has had a turn and waits for none, as while its rollout's tools run."""
        return self.waiting_turn is None and bool(self.tokens or self.epoch)

    def forget(self) -> None:
        """Forget the context; whoever does so has taken its pages."""
        self.tokens, self.computed, self.fork_at, self.kept, self.lost = [], 0, 0, 0, 0
        self.epoch += 1


@dataclass(frozen=True)
class PassItem:
    """A sequence's share of one pass of the model, fixed when the pass is planned.

    Its sequence may be restarted and its turn cancelled while the pass runs in another thread.

    Attributes:
        request: the turn it is for.
        epoch: the sequence's, when planned.
        offset: position of the first token.
        token_ids: the tokens to compute.
        pages: of the whole context, these tokens included.
        samples: whether nothing is pending after them, so that a token is sampled.
        keeps: whether the state after them is where others can begin.
    """

    sequence: Sequence
    request: TurnRequest
    epoch: int
    offset: int
    token_ids: list[int]
    pages: list[int]
    samples: bool
    keeps: bool

    @classmethod
    def plan(cls, sequence: Sequence, request: TurnRequest, length: int) -> "PassItem":
        """The next `length` pending tokens."""
        offset = sequence.computed
        end = offset + length
        token_ids, pages = sequence.tokens[offset:end], sequence.pages[: pages_of(end)]
        samples, keeps = sequence.pending == length, end == sequence.fork_at
        return cls(sequence, request, sequence.epoch, offset, token_ids, pages, samples, keeps)

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def recomputed(self) -> int:
        """How many of its tokens had been computed before their pages were taken."""
        return max(0, min(self.offset + self.length, self.sequence.lost) - self.offset)


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
