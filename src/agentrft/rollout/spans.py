"""What of a rollout is shown as spans, in the words of OpenTelemetry's conventions for generative AI where they have
some (https://opentelemetry.io/docs/specs/semconv/gen-ai/), else as `agentrft.*`.

A rollout is `invoke_agent`; below it are a `chat` for what each turn generates, an `execute_tool` for each call, and
the grades. What was written is an attribute only where the user asks for contents.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from agentrft import wire
from agentrft.chat import AssistantTurn
from agentrft.engine import Generation, Sampling
from agentrft.graders import Grade
from agentrft.rollout.record import Rollout, ToolCallRecord
from agentrft.tools import ToolCall
from agentrft.tracing import Span, span


def rollout_span(trace_id: str, sample_id: str, step: int, index: int) -> AbstractContextManager[Span]:
    """All of a rollout, its attempts included: the first span of a trace whose id is the rollout's."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": trace_id,
        "agentrft.trace_id": trace_id,
        "agentrft.sample_id": sample_id,
        "agentrft.step": step,
        "agentrft.index": index,
    }
    return span("invoke_agent", attributes, trace_id=trace_id)


def note_rollout(seen: Span, rollout: Rollout) -> None:
    """How it ended; broken infrastructure is an error, and a failure of the agent's is none."""
    context, prompted = 0, 0
    for number, turn in enumerate(rollout.turns):
        context = (0 if number in rollout.row_starts else context) + len(turn.prompt_ids)
        prompted += context
        context += len(turn.sampled_ids)
    seen.set(
        {
            "agentrft.outcome": rollout.outcome,
            "agentrft.failure_kind": rollout.failure_kind,
            "agentrft.reward": rollout.reward,
            "agentrft.attempt": rollout.attempt,
            "gen_ai.usage.input_tokens": prompted,
            "gen_ai.usage.output_tokens": rollout.sampled_tokens,
        }
    )
    if rollout.outcome == "infra_failed":
        seen.fail(rollout.failure_kind or "unknown")


def turn_span(trace_id: str, attempt: int, turn: int, sampling: Sampling) -> AbstractContextManager[Span]:
    """What a turn generates, waiting for the engine included."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "agentrft.trace_id": trace_id,
        "agentrft.attempt": attempt,
        "agentrft.turn": turn,
    }
    return span("chat", attributes)


def note_generation(seen: Span, generation: Generation, prompt_tokens: int) -> None:
    seen.set(
        {
            "gen_ai.usage.input_tokens": prompt_tokens,
            "gen_ai.usage.output_tokens": len(generation.token_ids),
            "gen_ai.response.finish_reasons": [generation.finish_reason],
            "agentrft.policy_version": generation.policy_version,
        }
    )


def note_said(seen: Span, said: AssistantTurn) -> None:
    """What the agent wrote, where that is asked for."""
    if seen.takes_contents:
        parts: Sequence[dict[str, str]] = [{"type": "text", "content": said.content}]
        seen.set({"gen_ai.output.messages": wire.dump([{"role": "assistant", "parts": parts}])})


def call_span(trace_id: str, attempt: int, turn: int, call: ToolCall) -> AbstractContextManager[Span]:
    """One call of a tool, its retries included."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.call.id": call.call_id,
        "gen_ai.tool.type": "function",
        "agentrft.trace_id": trace_id,
        "agentrft.attempt": attempt,
        "agentrft.turn": turn,
    }
    return span(f"execute_tool {call.name}", attributes)


def note_call(seen: Span, record: ToolCallRecord) -> None:
    seen.set({"agentrft.tool.status": record.status, "agentrft.tool.requests": record.attempts})
    if seen.takes_contents:
        seen.set({"gen_ai.tool.call.arguments": record.arguments, "gen_ai.tool.call.result": record.output})


def grade_span(trace_id: str, grader: str, *, trains: bool) -> AbstractContextManager[Span]:
    """One grader's grade; `trains` is whether it is the reward."""
    attributes = {"gen_ai.evaluation.name": grader, "agentrft.trace_id": trace_id, "agentrft.grader.trains": trains}
    return span(f"grade {grader}", attributes)


def note_grade(seen: Span, grade: Grade) -> None:
    seen.set({"gen_ai.evaluation.score.value": grade.score})
    if seen.takes_contents:
        seen.set({"gen_ai.evaluation.explanation": grade.reason})
