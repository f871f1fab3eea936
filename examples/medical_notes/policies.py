"""Scripted agents that show what the score pays for: without a model, through the real tool function and the grader.

Those that copy by position or leave the tool out must not score better than the demonstrations do.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from agentrft.rollout import Rollout, grader_sample
from examples.medical_notes.codes import category
from examples.medical_notes.conversation import Conversation
from examples.medical_notes.demonstrations import demonstrate
from examples.medical_notes.grader import grade
from examples.medical_notes.measures import measures
from examples.medical_notes.search import SearchTool

Item = dict[str, Any]
Policy = Callable[[Item, Conversation, random.Random], Rollout]


def oracle(item: Item, conversation: Conversation, script: random.Random) -> Rollout:
    """All that is to be coded, side by side by its name; the right hit, else one of its category, else none."""
    return _one_turn(_coded(item), conversation, _right_or_near)


def codes_negations(item: Item, conversation: Conversation, script: random.Random) -> Rollout:
    """The same for everything that the note mentions."""
    return _one_turn(item["findings"], conversation, _right_or_near)


def first_hits(item: Item, conversation: Conversation, script: random.Random) -> Rollout:
    """Everything that the note mentions, and the first line of each answer."""
    return _one_turn(item["findings"], conversation, _first)


def first_hits_of_coded(item: Item, conversation: Conversation, script: random.Random) -> Rollout:
    """All that is to be coded, and the first line of each answer."""
    return _one_turn(_coded(item), conversation, _first)


def every_hit(item: Item, conversation: Conversation, script: random.Random) -> Rollout:
    """All that is to be coded, and all lines of each answer."""
    return conversation.answer([code for codes in conversation.search(*_terms(_coded(item))) for code in codes])


def whole_note(item: Item, conversation: Conversation, script: random.Random) -> Rollout:
    """The note itself as the query, and all lines of the answer."""
    return conversation.answer(conversation.search(item["messages"][-1]["content"])[0])


def most_common(train: Sequence[Item]) -> Policy:
    """No search: the training rows' most common codes, as many as a note has."""
    counts = Counter(code for item in train for code in item["answer"])
    usual = Counter(len(item["answer"]) for item in train).most_common(1)[0][0]
    codes = [code for code, _ in counts.most_common(usual)]
    return lambda item, conversation, script: conversation.answer(codes)


def all_policies(train: Sequence[Item]) -> dict[str, Policy]:
    """By what they do, in words."""
    return {
        "searches side by side, reads (oracle)": oracle,
        "the same, codes negations too": codes_negations,
        "the demonstrations' agent": demonstrate,
        "first hit of what is to be coded": first_hits_of_coded,
        "first hit of all that is mentioned": first_hits,
        "every hit of what is to be coded": every_hit,
        "the whole note as the query, every hit": whole_note,
        "no search, the most common codes": most_common(train),
    }


def play(policy: Policy, items: Sequence[Item], tool: SearchTool, seed: int = 0) -> list[Rollout]:
    """A rollout of each item, with its score as the reward."""
    rollouts: list[Rollout] = []
    for number, item in enumerate(items):
        trace_id = f"trace_{seed}_{number}"
        rollout = policy(item, Conversation(item, tool, trace_id), random.Random(trace_id))
        rollout.reward = grade(grader_sample(rollout).as_payload(), item)
        rollouts.append(rollout)
    return rollouts


def score_table(train: Sequence[Item], test: Sequence[Item], tool: SearchTool) -> str:
    """The policies' mean scores and measures on the test rows, as a table in Markdown."""
    lines = ["| policy | reward | F1 | from negations | turns | calls |", "|---|---|---|---|---|---|"]
    for name, policy in all_policies(train).items():
        rollouts = play(policy, test, tool)
        found = [measures(rollout, item) for rollout, item in zip(rollouts, test, strict=True)]
        means = {key: _mean([one[key] for one in found]) for key in found[0]}
        reward = _mean([rollout.reward for rollout in rollouts])
        lines.append(
            f"| {name} | {reward:.3f} | {means['f1']:.3f} | {means['false_codes_from_negations']:.2f} "
            f"| {means['turns']:.1f} | {means['calls']:.1f} |"
        )
    return "\n".join(lines)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return mean(known) if known else 0.0


def _one_turn(
    findings: Sequence[Item], conversation: Conversation, choose: Callable[[list[str], str], str | None]
) -> Rollout:
    found = conversation.search(*_terms(findings))
    chosen = [choose(codes, finding["code"]) for codes, finding in zip(found, findings, strict=True)]
    return conversation.answer([code for code in chosen if code is not None])


def _coded(item: Item) -> list[Item]:
    return [finding for finding in item["findings"] if finding["kind"] == "now"]


def _terms(findings: Sequence[Item]) -> list[str]:
    return [finding["term"] for finding in findings]


def _first(codes: list[str], right: str) -> str | None:
    return codes[0] if codes else None


def _right_or_near(codes: list[str], right: str) -> str | None:
    if right in codes:
        return right
    return next((code for code in codes if category(code) == category(right)), None)
