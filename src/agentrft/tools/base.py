"""What a tool is to a rollout: something to await, which answers text or fails as infrastructure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

ResultStatus = Literal["ok", "client_error", "too_large", "cut"]


@dataclass(frozen=True)
class ToolCall:
    """A call as the model wrote it.

    Attributes:
        call_id: unique within the rollout.
        name: of the tool.
        arguments: JSON text.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolResult:
    """What the model gets to read.

    Attributes:
        output: the text.
        status: "ok", "cut" (longer than the job allows, and cut), or why `output` is an error text that the model can
            learn from: "client_error" (the tool refused the call, such as by 4xx), "too_large" (over 1 MB either way).
        latency_s: seconds, with repetitions and waiting.
        attempts: requests that were sent.
        faults: those of them that broke and were repeated, by the kinds of `ToolFailure`.
    """

    output: str
    status: ResultStatus
    latency_s: float
    attempts: int
    faults: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class TrialCall:
    """A call to try a tool with, before a job's own.

    Attributes:
        item: the row that goes with it.
        is_example: the user gave its arguments, so the tool must take them; others were made from its schema.
    """

    call: ToolCall
    item: dict[str, Any]
    is_example: bool


class ToolFailure(Exception):
    """The tool's infrastructure broke: the rollout becomes `infra_failed` and is never trained on.

    Attributes:
        tool: its name.
        kind: a short reason for counting: "timeout", "server_error", "connection", "rate_limited", "redirect",
            "bad_answer", "outage", "credential_refused", "exception", "not_recorded", "hook".
        attempts: requests that were sent.
        faults: those that broke, by kind: here all of them.
        repeatable: False where the call may have happened and must not be made again.
    """

    def __init__(
        self, tool: str, kind: str, message: str, attempts: int, *, faults: Mapping[str, int], repeatable: bool = True
    ) -> None:
        super().__init__(f"tool '{tool}': {kind}: {message}")
        self.tool = tool
        self.kind = kind
        self.attempts = attempts
        self.faults = dict(faults)
        self.repeatable = repeatable


class Tool(Protocol):
    """One callable tool; safe to call concurrently.

    Attributes:
        name: what the model calls it by.
        description: what the model reads of it where the dataset row has no `tools` of its own.
        parameters: the JSON Schema of its arguments, likewise.
        idempotent: False where a call that may have happened must not be made again.
        reads_item: whether its answer may depend on the dataset row.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    idempotent: bool
    reads_item: bool

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """Run the call.

        Args:
            call: as the model wrote it.
            trace_id: of the rollout.
            attempt: of the rollout, from 1.
            item: the whole row.

        Raises:
            ToolFailure: after the retries that the tool's spec allows.
        """
        ...

    async def probe(self, trial: TrialCall | None) -> None:
        """Look whether the tool is there, and make a call where one is given.

        Raises:
            EndpointError: it cannot be used.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds: connections, sessions."""
        ...


class RolloutResource(Protocol):
    """Something that lives as long as one attempt at a rollout: a sandbox, a session."""

    async def begin(self, *, trace_id: str, attempt: int, item: dict[str, Any]) -> None:
        """Raise ToolFailure where it cannot be made."""
        ...

    async def end(self, *, trace_id: str, attempt: int, outcome: str) -> None:
        """Called exactly once after `begin`, failed or not, however the rollout ended. Raises nothing."""
        ...

    async def close(self) -> None: ...
