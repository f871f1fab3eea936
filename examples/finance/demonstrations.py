"""Demonstrations by a scripted agent that has the form right and is careless on purpose.

It searches, reads, calculates and cites, which is what a warm start has to teach. It also opens the wrong section,
takes the wrong year, works sums out in its head and gets them a little wrong, forgets the citation, or cites a
section that it never opened. Reinforcement has all of that to find out.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from examples.common.tool_server import Tool
from examples.finance.calculator import calculate, shown
from examples.finance.questions import Question, prompt_messages, said_answer
from examples.finance.transcripts import Episode


@dataclass(frozen=True)
class Habits:
    """How often a scripted agent does what it should not."""

    opens_wrong_section: float = 0.2
    reads_wrong_year: float = 0.25
    calculates_in_its_head: float = 0.3
    forgets_citation: float = 0.35
    cites_another_section: float = 0.2


CARELESS = Habits()
CAREFUL = Habits(0, 0, 0, 0, 0)


def demonstrate(
    question: Question, tools: Mapping[str, Tool], script: random.Random, habits: Habits = CARELESS
) -> Episode:
    """A whole rollout: search, read, calculate where there is something to calculate, answer."""
    episode = Episode(tools, prompt_messages(question.text))
    hits = episode.call("search", query=search_query(question)).splitlines()
    others = [hit.split()[0] for hit in hits if hit.split()[0] not in question.sources and "-" in hit.split()[0]]
    if others and script.random() < habits.opens_wrong_section:
        # It notices, and reads the right one: a turn that costs, and a section that must not be cited.
        episode.call("cat", id=script.choice(others))
    episode.call_together(*[("cat", {"id": source}) for source in question.reads])
    expression = question.wrong_year if script.random() < habits.reads_wrong_year else question.expression
    number = expression
    if question.calculates:
        if script.random() < habits.calculates_in_its_head:
            number = shown(round(calculate(expression) * script.choice([0.9, 0.97, 1.04, 1.1]), 2))
        else:
            number = episode.call("calculate", expression=expression)
    answer = said_answer(number, question.unit)
    if script.random() >= habits.forgets_citation:
        cited = list(question.reads)
        if others and script.random() < habits.cites_another_section:
            cited = [script.choice(others)]
        answer += f"\nSOURCE: {', '.join(cited)}"
    return episode.finish(answer)


def search_query(question: Question) -> str:
    """What finds the section: whose filing, which section, which row."""
    return f"{question.company} {question.code} {question.topic}"
