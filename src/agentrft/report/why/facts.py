"""A rollout as a flat record: what it came to, what it took, and the behaviours that it shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.report.behaviours import alike, plain
from agentrft.report.why.advantages import advantages
from agentrft.report.why.answers import ANSWERS, answer_behaviours
from agentrft.report.why.arguments import argument_behaviours, argument_texts
from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.calls import call_behaviours
from agentrft.report.why.phrases import Candidates, Vocabulary, candidates, said, shown
from agentrft.rollout.record import Rollout

# Changes whenever what a rollout's facts are does.
VERSION = 3
# Of what was said so many characters can be searched.
SEARCHED = 4000


@dataclass(frozen=True)
class RolloutFacts:
    """What pages and findings know of a rollout without its record.

    Attributes:
        advantage: mean over its tokens of what the update paid it; 0 where that left it out, None without a reward and
            where there was no update, as in a validation.
        left_out: why the update did not see it: see `advantages`; None where it did.
        tools: names of the tools that it called, each once.
        answer_words: of the final answer.
        prompt_tokens: that it was given, results included.
        generation_s, tools_s, grade_s: of `latency_s`, without what ran at the same time.
        call_starts, call_seconds: of each call, when it began after the rollout did, and how long it took.
        behaviours: names of what it shows.
        text: what was said, in lower case, to be searched.
        said: what phrases are looked for in, by where it is said: see `phrases`.
    """

    trace_id: str
    sample_id: str
    phase: str
    step: int
    index: int
    outcome: str
    failure_kind: str | None
    reward: float | None
    advantage: float | None
    left_out: str | None
    turns: int
    calls: int
    tools: list[str]
    sampled_tokens: int
    reasoning_tokens: int
    prompt_tokens: int
    answer_words: int
    latency_s: float
    generation_s: float
    tools_s: float
    grade_s: float
    started_at: float
    attempt: int
    policy_version: int
    sub_scores: dict[str, float]
    holdout_scores: dict[str, float]
    answer: str
    text: str
    call_starts: list[float] = field(default_factory=list[float])
    call_seconds: list[float] = field(default_factory=list[float])
    said: dict[str, str] = field(default_factory=dict[str, str])
    behaviours: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class StepFacts:
    """Of a step.

    Attributes:
        facts: of its rollouts, in their order, without phrases: see `phrases_shown`.
        known: the behaviours that they name.
        candidates: the phrases that are common in it.
    """

    facts: list[RolloutFacts]
    known: dict[str, Behaviour]
    candidates: Candidates


def facts_of(rollouts: Sequence[Rollout], *, phase: str, tools: Sequence[str], algorithm: str = "grpo") -> StepFacts:
    """The facts of a step's rollouts.

    Args:
        phase: the part of the job that the step belongs to.
        tools: names of the tools that the agent has.
        algorithm: of the job; for records that lack their advantages.
    """
    behaviours = _behaviours(rollouts, tools)
    known = {one.name: one for own in behaviours for one in own}
    texts = [dict(_said(rollout)) for rollout in rollouts]
    given, samples = [_given(rollout) for rollout in rollouts], [rollout.sample_id for rollout in rollouts]
    places = dict.fromkeys(place for own in texts for place in own)
    common = {place: candidates([own.get(place, "") for own in texts], given, samples) for place in places}
    facts = [
        _facts(rollout, phase, *paid, text, [one.name for one in own])
        for rollout, paid, text, own in zip(
            rollouts, advantages(rollouts, phase=phase, algorithm=algorithm), texts, behaviours, strict=True
        )
    ]
    return StepFacts(facts, known, {place: weights for place, weights in common.items() if weights})


def phrase_behaviours(vocabulary: Vocabulary) -> dict[str, Behaviour]:
    """By their names, what it is to say the phrases of a vocabulary."""
    named = (_phrase(place, phrase) for place, phrases in vocabulary.items() for phrase in phrases)
    return {one.name: one for one in named}


def phrases_shown(texts: dict[str, str], vocabulary: Vocabulary) -> list[str]:
    """The names of the phrases that a rollout says; `texts` is its facts' `said`."""
    return [
        _phrase(place, phrase).name
        for place, phrases in vocabulary.items()
        if place in texts
        for phrase in shown(texts[place], phrases)
    ]


def _behaviours(rollouts: Sequence[Rollout], tools: Sequence[str]) -> list[list[Behaviour]]:
    """Of each rollout what it shows, without phrases."""
    found: list[list[Behaviour]] = []
    for rollout, is_alike in zip(rollouts, alike(rollouts), strict=True):
        own = dict.fromkeys(call_behaviours(rollout, tools))
        own |= dict.fromkeys(argument_behaviours(rollout)) | dict.fromkeys(answer_behaviours(rollout))
        if is_alike:
            own[Behaviour("answers word for word as another rollout of its group", "group", ANSWERS)] = None
        found.append(list(own))
    return found


def _said(rollout: Rollout) -> Iterator[tuple[str, str]]:
    """Where phrases are looked for: in what it wrote itself, and in each argument of each tool."""
    yield "", said(_written(rollout))
    texts: dict[str, list[str]] = {}
    for tool, name, text in argument_texts(rollout):
        texts.setdefault(f"{tool}.{name}", []).append(text)
    yield from ((place, said("\n".join(several))) for place, several in texts.items())


def _phrase(place: str, phrase: str) -> Behaviour:
    if not place:
        return Behaviour(f"says “{phrase}”", "phrase", ANSWERS)
    return Behaviour(f"asks {place} with “{phrase}”", "arguments", f"calls {place.partition('.')[0]}")


def _facts(
    rollout: Rollout,
    phase: str,
    advantage: float | None,
    left_out: str | None,
    texts: dict[str, str],
    behaviours: list[str],
) -> RolloutFacts:
    generation_s, tools_s = 0.0, 0.0
    call_starts: list[float] = []
    for turn in rollout.turns:
        generation_s += turn.generation_s
        call_starts += [generation_s + tools_s] * len(turn.tool_calls)
        # Calls of a turn run side by side.
        tools_s += max((call.latency_s for call in turn.tool_calls), default=0.0)
    return RolloutFacts(
        trace_id=rollout.trace_id,
        sample_id=rollout.sample_id,
        phase=phase,
        step=rollout.step,
        index=rollout.index,
        outcome=rollout.outcome,
        failure_kind=rollout.failure_kind,
        reward=rollout.reward,
        advantage=advantage,
        left_out=left_out,
        turns=len(rollout.turns),
        calls=len(rollout.tool_calls),
        tools=sorted({call.name for call in rollout.tool_calls}),
        sampled_tokens=rollout.sampled_tokens,
        reasoning_tokens=rollout.reasoning_tokens,
        prompt_tokens=sum(len(turn.prompt_ids) for turn in rollout.turns),
        answer_words=len(rollout.output_text.split()),
        latency_s=rollout.latency_s,
        generation_s=generation_s,
        tools_s=tools_s,
        grade_s=rollout.grade.latency_s if rollout.grade is not None else 0.0,
        started_at=rollout.started_at,
        attempt=rollout.attempt,
        policy_version=rollout.turns[-1].policy_version if rollout.turns else 0,
        sub_scores=rollout.grade.sub_scores if rollout.grade is not None else {},
        holdout_scores=rollout.holdout_scores,
        answer=rollout.output_text[:SEARCHED],
        text=_searched(rollout),
        call_starts=call_starts,
        call_seconds=[call.latency_s for call in rollout.tool_calls],
        said=texts,
        behaviours=behaviours,
    )


def _written(rollout: Rollout) -> str:
    """What the agent itself wrote beside calls, its thoughts included."""
    parts = [
        part
        for message in rollout.messages
        if message.get("role") == "assistant" and isinstance(message.get("content"), str)
        for part in (message.get("reasoning_content"), message["content"])
        if part
    ]
    return "\n".join(parts) if parts else rollout.output_text


def _given(rollout: Rollout) -> str:
    texts: list[Any] = [message.get("content") for message in rollout.messages if message.get("role") != "assistant"]
    return "\n".join(text for text in texts if isinstance(text, str))


def _searched(rollout: Rollout) -> str:
    calls = " ".join(f"{call.name} {call.arguments}" for call in rollout.tool_calls)
    asked = next((one["content"] for one in reversed(rollout.messages) if one.get("role") == "user"), "")
    asked = asked if isinstance(asked, str) else ""
    results = " ".join(call.output for call in rollout.tool_calls)
    return plain(f"{rollout.output_text} {calls} {asked} {_written(rollout)} {results}")[:SEARCHED]
