"""What an engine is to a rollout."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True)
class Sampling:
    """How one turn is sampled.

    Attributes:
        temperature: 0 is greedy; log-probabilities are then those of temperature 1.
        top_p: nucleus; log-probabilities are reported before it is applied.
        max_tokens: at most this many tokens are sampled.
        stop_ids: token ids that end the turn; the stop token itself is part of what was sampled.
        seed: of this turn's random numbers.
        deadline_s: seconds for the whole turn, waiting included.
    """

    temperature: float
    top_p: float
    max_tokens: int
    stop_ids: frozenset[int]
    seed: int
    deadline_s: float


@dataclass(frozen=True)
class Generation:
    """One sampled turn.

    Attributes:
        logprobs: of each token, in nats, at the sampling temperature, under the version that sampled it.
        policy_version: that sampled the first token, which is the oldest of the turn.
        versions: spans of [version, tokens] in order, where the weights changed during the turn; empty where
            `policy_version` sampled all of it.
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]
    policy_version: int
    versions: list[list[int]] = field(default_factory=list[list[int]])


class EngineFailure(Exception):
    """The engine could not generate; `kind` is a short reason for counting."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"engine: {kind}: {message}")
        self.kind = kind


class Session(Protocol):
    """One rollout's place in the engine. Its context grows by what is appended and what is sampled."""

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        """Append `new_ids` to the context and sample a turn.

        Raises:
            EngineFailure: time-out, context overflow or a stopped engine.
        """
        ...

    def restart(self) -> None:
        """Forget the context; the next `generate` starts with a whole prompt."""
        ...

    def close(self) -> None:
        """Give everything back. Safe to call twice."""
        ...


class Engine(Protocol):
    """A source of sessions on one policy version at a time. Sessions go on over a change of weights.

    Attributes:
        policy_version: of what it samples from.
    """

    policy_version: int

    @property
    def busy_s(self) -> float:
        """Seconds in which it generated, since it was made."""
        ...

    @property
    def counters(self) -> Counter[str]:
        """What it counted since it was made, by name; tokens at least."""
        ...

    async def open(self) -> Session:
        """Wait for a place and take it."""
        ...

    async def prove(self, *, temperature: float, top_p: float, context_tokens: int) -> None:
        """See that an engine outside this process is there, and that a job which samples like this can train with it.

        Raises:
            EndpointError: it is not, or cannot.
        """
        ...

    async def release_memory(self) -> None:
        """Give back what memory it can until the next session, and forget all prefixes.

        Raises:
            EngineFailure: sessions are open.
        """
        ...

    async def close(self) -> None:
        """Stop; whoever still waits, or asks later, fails."""
        ...
