"""What a tool is to a rollout: something to await, which answers text or fails as infrastructure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class ToolCall:
    """A call as the model wrote it. `arguments` is the JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolResult:
    """What the model gets to read.

    `status` is "ok", or why `output` is an error text that the model can learn from:
    "client_error" (the endpoint answered 4xx), "too_large" (over 1 MB either way).
    `attempts` counts HTTP requests sent, and `faults` those of them that broke and were repeated, by the kinds of
    `ToolFailure`.
    """

    output: str
    status: Literal["ok", "client_error", "too_large"]
    latency_s: float
    attempts: int
    faults: Mapping[str, int] = field(default_factory=dict)


class ToolFailure(Exception):
    """The tool's infrastructure broke: the rollout becomes `infra_failed` and is never trained on.

    `kind` is a short reason for counting: "timeout", "server_error", "connection", "rate_limited", "bad_answer".
    `attempts` counts HTTP requests sent, `faults` those that broke, by kind: here all of them.
    `repeatable` is False where the call may have happened and must not be made again.
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
    """One callable tool endpoint; safe to call concurrently.

    `idempotent` is False where a call that may have happened must not be made again.
    """

    name: str
    idempotent: bool

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """Run the call.

        Raises:
            ToolFailure: after the retries that the tool's spec allows.
        """
        ...

    async def close(self) -> None: ...
