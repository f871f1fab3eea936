"""What a grader is: a finished rollout in, a grade out, or a failure that is never a score."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from agentrft import wire
from agentrft.graders.uses import GraderUse, added_uses
from agentrft.wire import WireError

# The kind of fault of a rollout that lacks what its grader reads of it.
MISSING_SAMPLE_KEY = "missing_sample_key"


@dataclass(frozen=True)
class CallFact:
    """One call of the agent's.

    Attributes:
        name: of the tool.
        arguments: JSON text, as the model wrote it.
        status: as in `ToolCallRecord`.
        latency_s: seconds, with repetitions and waiting.
        turn: in which it was made, from 0.
    """

    name: str
    arguments: str
    status: str
    latency_s: float
    turn: int


@dataclass(frozen=True)
class TraceFacts:
    """How the answer was reached.

    Attributes:
        calls: in the order in which they were asked for.
        turns: generations of the model.
        sampled_tokens: of all turns, thoughts included.
        latency_s: seconds from the first request to the final answer.
    """

    calls: list[CallFact] = field(default_factory=list[CallFact])
    turns: int = 0
    sampled_tokens: int = 0
    latency_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As `sample.trace` has it."""
        return asdict(self)


@dataclass(frozen=True)
class GraderSample:
    """The agent's finished work, as graders and their templates see it (`sample.*`).

    Attributes:
        output_text: the final answer, without what the model thought before it.
        output_tools: every tool call, Chat Completions shape: {"id", "type", "function": {"name", "arguments"}}.
        messages: the whole conversation, tool results included.
        trace: how it was reached.
        finish_reason: of the last turn, as Chat Completions has it: "stop", "length" or "tool_calls".
        reasoning: what the model thought before the final answer, or in the turn that was cut off; empty without.
    """

    output_text: str
    output_tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    trace: TraceFacts = field(default_factory=TraceFacts)
    finish_reason: str = "stop"
    reasoning: str = ""

    def as_payload(self) -> dict[str, Any]:
        """`sample` as python graders and endpoints get it: `as_template_value`, with an `output_json` of None where the
        answer is no JSON.
        """
        return {"output_json": None, **self.as_template_value()}

    def as_template_value(self) -> dict[str, Any]:
        """`sample` as templates read it: output_text, output_json (when it is JSON), output_tools, reasoning, choices,
        finish_reason, messages, trace.
        """
        message = {"role": "assistant", "content": self.output_text, "tool_calls": self.output_tools}
        value: dict[str, Any] = {
            "output_text": self.output_text,
            "output_tools": self.output_tools,
            "reasoning": self.reasoning,
            "choices": [{"index": 0, "finish_reason": self.finish_reason, "message": message}],
            "finish_reason": self.finish_reason,
            "messages": self.messages,
            "trace": self.trace.as_dict(),
        }
        try:
            value["output_json"] = wire.parse(self.output_text, lossy=True)
        except WireError:
            # The agent's own doing: a grader that asks for it finds nothing there.
            pass
        return value


@dataclass(frozen=True)
class Grade:
    """What a grader returns.

    Attributes:
        score: a finite number between -1e9 and 1e9.
        sub_scores: parts of it, by name; of a `multi` what each of its graders gave.
        reason: why, in words, where the grader says so.
        errors: what went wrong on the way to the score and was mended, such as repeated requests, in words.
        faults: the same, counted by the kinds of `GraderFailure`.
        usage: tokens that a judge took, by the names of Chat Completions.
        latency_s: the grader's own time in seconds, retries included.
        parts: of a `multi`, what each of its graders took; of others nothing.
        missing: what templates read of the rollout and it does not have, such as "sample.output_json.k": then the score
            is the lowest of the grader, and `faults` has a "missing_sample_key".
    """

    score: float
    sub_scores: dict[str, float] = field(default_factory=dict[str, float])
    reason: str | None = None
    errors: list[str] = field(default_factory=list[str])
    faults: dict[str, int] = field(default_factory=dict[str, int])
    usage: dict[str, int] = field(default_factory=dict[str, int])
    latency_s: float = 0.0
    parts: dict[str, GraderUse] = field(default_factory=dict[str, GraderUse])
    missing: list[str] = field(default_factory=list[str])

    def uses(self, grader: str) -> dict[str, GraderUse]:
        """What each grader took, by name; `grader` is the name of the one that gave this grade."""
        return self.parts or {grader: GraderUse(self.faults, self.usage, self.latency_s)}


class GraderFailure(Exception):
    """The grader could not grade: the rollout becomes `infra_failed`, for graders fail closed (docs/architecture.md,
    invariant 4).

    Attributes:
        grader: its name.
        kind: a short reason for counting: "exception", "timeout", "bad_answer", "missing_key", "connection", ...
        cause: the message without the remedy.
        remedy: what to do about it, where that is known.
        faults: everything that broke, by kind: the failure itself, and the requests before it that were repeated.
        usage: what a judge took nevertheless.
        others: what the other graders of a `multi` had taken by then.
    """

    def __init__(
        self,
        grader: str,
        kind: str,
        message: str,
        *,
        faults: Mapping[str, int] | None = None,
        usage: Mapping[str, int] | None = None,
        others: Mapping[str, GraderUse] | None = None,
        remedy: str | None = None,
    ) -> None:
        self.cause = f"grader '{grader}': {kind}: {message}"
        self.remedy = remedy
        super().__init__(self.cause if remedy is None else f"{self.cause}. {remedy}")
        self.faults = dict(faults or {kind: 1})
        self.usage = dict(usage or {})
        self.others = dict(others or {})
        self.grader = grader
        self.kind = kind

    @property
    def uses(self) -> dict[str, GraderUse]:
        """What each grader took, by name."""
        return added_uses((self.others, {self.grader: GraderUse(self.faults, self.usage)}))


class Grader(Protocol):
    """Safe to call concurrently."""

    name: str

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Args:
            sample: what the agent did.
            item: the whole row.
            trace_id: of the rollout.

        Raises:
            GraderFailure: whenever there is no honest score.
        """
        ...

    async def probe(self) -> None:
        """Look whether its servers are there, without asking them anything.

        Raises:
            EndpointError: one is not.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds: connections, processes."""
        ...
