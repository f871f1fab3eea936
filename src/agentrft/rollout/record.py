"""The rollout record: what happened, token-exact, in a form that is stored and trained on as it is."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from agentrft.graders.base import CallFact, Grade, GraderSample, TraceFacts
from agentrft.graders.uses import GraderUse

Outcome = Literal["graded", "model_failed", "infra_failed"]
# Why a rollout goes on in a new row: the template leaves out what the model thought earlier, or writes something else
# of the conversation anew.
Fork = Literal["reasoning_dropped", "rewritten"]
# Fields of a turn that have a number for each token.
_NUMBERS_OF_TURN = ("prompt_ids", "sampled_ids", "sampled_logprobs", "advantages", "entropies", "moved")


@dataclass
class ToolCallRecord:
    """One tool call of a turn and what came back.

    Attributes:
        call_id: unique within the rollout.
        name: of the tool, as the model wrote it.
        arguments: JSON text, as the model wrote it.
        output: what the model read.
        status: as in `ToolResult`, or why the call was not made: "bad_call", "bad_arguments", "unknown_tool",
            "not_allowed", "over_limit".
        latency_s: seconds, with repetitions and waiting; 0 where it was not made.
        attempts: requests that were sent.
    """

    call_id: str
    name: str
    arguments: str
    output: str
    status: str
    latency_s: float
    attempts: int


@dataclass
class Turn:
    """One generation. Only the tokens that this turn added are stored.

    Attributes:
        prompt_ids: what was appended before sampling: in turn 0 the whole prompt, later the tool results.
        sampled_ids: what the engine sampled, as token ids.
        sampled_logprobs: their log-probabilities under the policy that sampled them, in nats, at its temperature; as
            long as `sampled_ids`.
        finish_reason: "stop" or "length".
        policy_version: that sampled the first token, the oldest of the turn.
        versions: spans of [policy version, tokens], in order, where the weights changed during the turn; empty where
            `policy_version` sampled all of it, and in older records.
        generation_s: seconds, waiting for the engine included.
        reasoning_tokens: those of the sampled ones that are the model's reasoning; 0 in older records.
        tool_calls: that the turn asked for, in that order.
        advantages: what the update of its step gave the sampled tokens: one number where all of them have the same,
            none where no update saw them, as in a validation or where all rewards of the group are alike, and in older
            records.
        entropies: of the policy where each token was sampled, in nats, as that update found it.
        moved: how much likelier each token had become since training began, in nats; of the groups alone that the
            update compared.
    """

    prompt_ids: list[int]
    sampled_ids: list[int]
    sampled_logprobs: list[float]
    finish_reason: str
    policy_version: int
    generation_s: float = 0.0
    reasoning_tokens: int = 0
    tool_calls: list[ToolCallRecord] = field(default_factory=list[ToolCallRecord])
    advantages: list[float] = field(default_factory=list[float])
    entropies: list[float] = field(default_factory=list[float])
    moved: list[float] = field(default_factory=list[float])
    versions: list[list[int]] = field(default_factory=list[list[int]])

    @property
    def version_spans(self) -> list[list[int]]:
        """Which version sampled how many tokens, in order; also where one sampled them all."""
        return self.versions or [[self.policy_version, len(self.sampled_ids)]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON has. `asdict` looks at each of thousands of numbers, and takes 50 times as long."""
        values: dict[str, Any] = vars(self).copy()
        for name in _NUMBERS_OF_TURN:
            values[name] = values[name].copy()
        values["tool_calls"] = [asdict(call) for call in self.tool_calls]
        values["versions"] = [span.copy() for span in self.versions]
        return values


@dataclass
class Rollout:
    """One attempt at one sample.

    Attributes:
        trace_id: unique; on every tool call and grader call of it.
        attempt: 1, or 2 where infrastructure broke the first.
        sample_id: of the row.
        step: of the job.
        index: within its group, from 0.
        outcome: "graded", "model_failed" or "infra_failed".
        turns: what was sampled, and what it was sampled behind.
        messages: the conversation in Chat Completions' shape, prompt and tool results included.
        output_text: the final answer, without thoughts; empty where there is none.
        failure_kind: for `model_failed`: "max_turns", "max_tokens", "context", "no_answer", "no_tool_call",
            "response_format"; for `infra_failed`: `tool:KIND`, `grader:KIND` or `engine:KIND`, or
            `worker:lost` where the process that ran it ended.
        failure_message: of what infrastructure broke.
        grade: None where there was nothing to grade; a `model_failed` rollout has one with `grade_unfinished`.
        reward: None exactly for `infra_failed`. Of `model_failed` it is settled when its step is (`FailedReward`).
        holdout_scores: of the graders that never train, by name; without those that could not grade.
        latency_s: seconds from the first request to the final answer.
        tool_requests: HTTP requests made for it, with retries and with attempts that were given up.
        faults: everything that broke on the way, requests that were repeated included, by `tool:KIND`, `grader:KIND`,
            `holdout:KIND`, `engine:KIND` or `worker:lost`; of all attempts. `grader:missing_sample_key` is the agent's
            own: the rollout lacks what the grader reads of it.
        given_up: failure kind of each attempt before this one.
        row_starts: the turns at which a row of token ids begins, always [0, ...]. Where what follows a turn cannot be
            appended exactly, a new row begins, and its first turn carries the whole prompt again (docs/architecture.md,
            invariant 1).
        forks: how often that was so, by its reason: `Fork`.
        graders: what each grader took, those inside a `multi` one by one; of all attempts. Holdouts are not in it.
        started_at: when the first attempt began, in seconds since the epoch; 0 in older records.
    """

    trace_id: str
    attempt: int
    sample_id: str
    step: int
    index: int
    outcome: Outcome
    turns: list[Turn]
    messages: list[dict[str, Any]]
    output_text: str = ""
    failure_kind: str | None = None
    failure_message: str | None = None
    grade: Grade | None = None
    reward: float | None = None
    holdout_scores: dict[str, float] = field(default_factory=dict[str, float])
    latency_s: float = 0.0
    tool_requests: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])
    given_up: list[str] = field(default_factory=list[str])
    row_starts: list[int] = field(default_factory=lambda: [0])
    forks: dict[str, int] = field(default_factory=dict[str, int])
    graders: dict[str, GraderUse] = field(default_factory=dict[str, GraderUse])
    started_at: float = 0.0

    @property
    def sampled_tokens(self) -> int:
        return sum(len(turn.sampled_ids) for turn in self.turns)

    @property
    def oldest_version(self) -> int | None:
        """Policy version of its oldest token; None where none was sampled."""
        return min((turn.policy_version for turn in self.turns), default=None)

    @property
    def reasoning_tokens(self) -> int:
        return sum(turn.reasoning_tokens for turn in self.turns)

    @property
    def advantage(self) -> float | None:
        """Mean over its sampled tokens of what the update gave them; None where no update saw it."""
        turns = [turn for turn in self.turns if turn.advantages]
        tokens = sum(len(turn.sampled_ids) for turn in turns)
        total = sum(sum(turn.advantages) * len(turn.sampled_ids) / len(turn.advantages) for turn in turns)
        return total / tokens if tokens else None

    @property
    def tool_calls(self) -> list[ToolCallRecord]:
        return [call for turn in self.turns for call in turn.tool_calls]

    @property
    def first_attempt_failure(self) -> str | None:
        """Failure kind of the infrastructure at the first attempt; None where that came to an end of the agent's own.

        What breaks on some answers is sampled again, so that of the rollouts in the end few show it.
        """
        if self.given_up:
            return self.given_up[0]
        return (self.failure_kind or "unknown") if self.outcome == "infra_failed" else None

    def as_dict(self) -> dict[str, Any]:
        """As it is stored: plain values that JSON has."""
        return {**asdict(replace(self, turns=[])), "turns": [turn.as_dict() for turn in self.turns]}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Rollout":
        """The rollout that `as_dict` made this of."""
        value = dict(value)
        turns: list[dict[str, Any]] = [
            {**turn, "tool_calls": [ToolCallRecord(**call) for call in turn["tool_calls"]]} for turn in value["turns"]
        ]
        value["turns"] = [Turn(**turn) for turn in turns]
        value["grade"] = Grade(**value["grade"]) if value.get("grade") else None
        value["graders"] = {name: GraderUse(**use) for name, use in value.get("graders", {}).items()}
        return cls(**value)


def grader_sample(rollout: Rollout) -> GraderSample:
    """The rollout as graders see it."""
    tools = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in rollout.tool_calls
    ]
    facts = [
        CallFact(call.name, call.arguments, call.status, call.latency_s, number)
        for number, turn in enumerate(rollout.turns)
        for call in turn.tool_calls
    ]
    trace = TraceFacts(facts, len(rollout.turns), rollout.sampled_tokens, rollout.latency_s)
    return GraderSample(
        rollout.output_text, tools, rollout.messages, trace, _finish_reason(rollout), _reasoning(rollout)
    )


def _reasoning(rollout: Rollout) -> str:
    """What the model thought in its last turn; nothing where the rollout ended after tool results."""
    last = rollout.messages[-1] if rollout.messages else {}
    return (last.get("reasoning_content") or "").strip() if last.get("role") == "assistant" else ""


def _finish_reason(rollout: Rollout) -> str:
    """Of the last turn, in Chat Completions' words: a turn that the engine stopped may have ended in calls."""
    if not rollout.turns:
        return "stop"
    last = rollout.turns[-1]
    return "tool_calls" if last.tool_calls and last.finish_reason == "stop" else last.finish_reason
