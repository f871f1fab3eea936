"""A rollout as a flat record: what it came to, what it took, and the behaviours that it shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.report.averages import mean
from agentrft.report.behaviours import alike, plain
from agentrft.report.summary import SAME_REWARD
from agentrft.report.why.answers import ANSWERS, answer_behaviours
from agentrft.report.why.arguments import argument_behaviours, argument_texts
from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.calls import call_behaviours
from agentrft.report.why.phrases import common_phrases
from agentrft.rollout.group import by_sample
from agentrft.rollout.record import Rollout

# Changes whenever what a rollout's facts are does.
VERSION = 1
# Of what was said so many characters can be searched.
SEARCHED = 4000
EPSILON = 1e-4
# Phrases by where they are said: "" for the answer, else a tool's argument. So many of each are remembered.
Vocabulary = dict[str, list[str]]
MOST_KNOWN = 300


@dataclass(frozen=True)
class RolloutFacts:
    """What pages and findings know of a rollout without its record.

    Attributes:
        advantage: its reward less its group's mean, over the group's standard deviation: what the update pays it by the
            default algorithm; 0 in a group whose rewards are alike, None without a reward.
        left_out: why the update did not see it: "infrastructure" or "alike"; None where it did.
        tools: names of the tools that it called, each once.
        answer_words: of the final answer.
        prompt_tokens: that it was given, results included.
        generation_s, tools_s, grade_s: of `latency_s`, without what ran at the same time.
        behaviours: names of what it shows.
        text: what was said, in lower case, to be searched.
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
    behaviours: list[str] = field(default_factory=list[str])


def facts_of(
    rollouts: Sequence[Rollout], *, phase: str, tools: Sequence[str], earlier: Vocabulary | None = None
) -> tuple[list[RolloutFacts], dict[str, Behaviour], Vocabulary]:
    """The facts of a step's rollouts, in their order, the behaviours that they name, and the phrases known by now.

    Args:
        phase: the part of the job that the step belongs to.
        tools: names of the tools that the agent has.
        earlier: phrases of the steps before.
    """
    vocabulary = dict(earlier or {})
    shown = _behaviours(rollouts, tools, vocabulary)
    known = {one.name: one for behaviours in shown for one in behaviours}
    advantages = _advantages(rollouts)
    facts = [
        _facts(rollout, phase, advantage, left_out, [one.name for one in behaviours])
        for rollout, (advantage, left_out), behaviours in zip(rollouts, advantages, shown, strict=True)
    ]
    return facts, known, vocabulary


def _behaviours(rollouts: Sequence[Rollout], tools: Sequence[str], vocabulary: Vocabulary) -> list[list[Behaviour]]:
    """Of each rollout what it shows; what is new in `vocabulary` is added to it."""
    found: list[dict[Behaviour, None]] = []
    for rollout, is_alike in zip(rollouts, alike(rollouts), strict=True):
        own = dict.fromkeys(call_behaviours(rollout, tools))
        own |= dict.fromkeys(argument_behaviours(rollout)) | dict.fromkeys(answer_behaviours(rollout))
        if is_alike:
            own[Behaviour("answers word for word as another rollout of its group", "source", ANSWERS)] = None
        found.append(own)
    given = [_given(rollout) for rollout in rollouts]
    places = dict.fromkeys((tool, name) for rollout in rollouts for tool, name, _ in argument_texts(rollout))
    texts = {"": [_said(rollout) for rollout in rollouts]}
    for tool, name in places:
        texts[f"{tool}.{name}"] = [_asked(rollout, tool, name) for rollout in rollouts]
    samples = [rollout.sample_id for rollout in rollouts]
    for place, of_each in texts.items():
        said = common_phrases(of_each, given, samples, vocabulary.get(place, ()))
        for own, phrases in zip(found, said, strict=True):
            own |= dict.fromkeys(_phrase(place, phrase) for phrase in phrases)
        new = sorted({phrase for phrases in said for phrase in phrases} - set(vocabulary.get(place, ())))
        vocabulary[place] = [*vocabulary.get(place, ()), *new][:MOST_KNOWN]
    return [list(own) for own in found]


def _phrase(place: str, phrase: str) -> Behaviour:
    if not place:
        return Behaviour(f"says “{phrase}”", "phrase", ANSWERS)
    return Behaviour(f"asks {place} with “{phrase}”", "arguments", f"calls {place.partition('.')[0]}")


def _asked(rollout: Rollout, tool: str, name: str) -> str:
    return "\n".join(text for one, argument, text in argument_texts(rollout) if (one, argument) == (tool, name))


def _advantages(rollouts: Sequence[Rollout]) -> list[tuple[float | None, str | None]]:
    """Of each rollout its advantage, and why an update left it out."""
    found: dict[str, tuple[float | None, str | None]] = {}
    for group in by_sample(rollouts).values():
        rewards = [one.reward for one in group if one.reward is not None]
        centre = mean(rewards)
        spread = math.sqrt(sum((one - centre) ** 2 for one in rewards) / max(1, len(rewards) - 1))
        is_alike = not rewards or max(rewards) - min(rewards) <= SAME_REWARD
        for one in group:
            if one.reward is None:
                found[one.trace_id] = (None, "infrastructure")
            elif is_alike:
                found[one.trace_id] = (0.0, "alike")
            else:
                found[one.trace_id] = ((one.reward - centre) / (spread + EPSILON), None)
    return [found[one.trace_id] for one in rollouts]


def _facts(
    rollout: Rollout, phase: str, advantage: float | None, left_out: str | None, behaviours: list[str]
) -> RolloutFacts:
    generation_s = sum(turn.generation_s for turn in rollout.turns)
    # Calls of a turn run side by side.
    tools_s = sum(max((call.latency_s for call in turn.tool_calls), default=0.0) for turn in rollout.turns)
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
        behaviours=behaviours,
    )


def _said(rollout: Rollout) -> str:
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
    return plain(f"{rollout.output_text} {calls} {asked} {_said(rollout)} {results}")[:SEARCHED]
