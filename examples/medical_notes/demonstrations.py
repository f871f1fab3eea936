"""Demonstrations by a scripted agent that is mediocre on purpose.

It knows how to call the tool and how to answer, which is what the warm start has to teach. It searches for one thing
after the other, copies sentences into its queries, asks twice, looks up what is denied and sometimes codes it, and one
time in four takes any hit. Some of its turns have two searches, so that a model has seen that this can be done.
"""

import random
from typing import Any

from agentrft.rollout import Rollout
from examples.medical_notes.conversation import Conversation

SIDE_BY_SIDE_SHARE = 0.15
SENTENCE_QUERY_SHARE = 0.3
REPEATED_SHARE = 0.2
NOT_CODED_SEARCHED_SHARE = 0.5
NOT_CODED_TAKEN_SHARE = 0.5
READ_SHARE = 0.75


def demonstrate(item: dict[str, Any], conversation: Conversation, script: random.Random) -> Rollout:
    """Code one note; the conversation's messages are the demonstration."""
    searched = [
        finding
        for finding in item["findings"]
        if finding["kind"] == "now" or script.random() < NOT_CODED_SEARCHED_SHARE
    ]
    taken: list[str] = []
    while searched:
        n_beside = 2 if script.random() < SIDE_BY_SIDE_SHARE else 1
        beside, searched = searched[:n_beside], searched[n_beside:]
        found = conversation.search(*(_query(finding, script) for finding in beside))
        if script.random() < REPEATED_SHARE:
            found = [old + new for old, new in zip(found, conversation.search(*_terms(beside)), strict=True)]
        for finding, codes in zip(beside, found, strict=True):
            if codes and (finding["kind"] == "now" or script.random() < NOT_CODED_TAKEN_SHARE):
                taken.append(_read(codes, finding["code"], script))
    # Where nothing was found there is still an answer to give, in the form that is asked for.
    return conversation.answer(taken or ["R69"])


def _query(finding: dict[str, Any], script: random.Random) -> str:
    return finding["sentence"].rstrip(".") if script.random() < SENTENCE_QUERY_SHARE else finding["term"]


def _terms(findings: list[dict[str, Any]]) -> list[str]:
    return [finding["term"] for finding in findings]


def _read(codes: list[str], right: str, script: random.Random) -> str:
    """The right code where it is among the hits and the agent reads, else any hit."""
    return right if right in codes and script.random() < READ_SHARE else script.choice(codes)
