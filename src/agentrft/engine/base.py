"""What an engine is to a rollout."""

from dataclasses import dataclass
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
    """One sampled turn. `logprobs` is parallel to `token_ids`, at the sampling temperature."""

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]
    policy_version: int


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
    """A source of sessions on one policy version at a time.

    Attributes:
        policy_version: of what it samples from.
    """

    policy_version: int

    @property
    def busy_s(self) -> float:
        """Seconds in which it generated, since it was made."""
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
