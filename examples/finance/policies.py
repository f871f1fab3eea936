"""Scripted policies, which say what a score is worth before any model is trained.

The oracle knows where everything stands: what it gets is what can be reached. The demonstrator is where a warm start
    begins. The others are short cuts: if one of them were paid as well as the demonstrator, a model would learn it
    instead of the task.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from examples.common.tool_server import Tool
from examples.finance.corpus import read_table
from examples.finance.demonstrations import CAREFUL, demonstrate, search_query
from examples.finance.grader import IN_TEXT
from examples.finance.questions import Question, prompt_messages, said_answer
from examples.finance.transcripts import Episode, sample_of

if TYPE_CHECKING:
    from agentrft.rollout import Rollout

Policy = Callable[[Question, Mapping[str, Tool], random.Random], Episode]
Grade = Callable[[dict, dict], float]
UNIT_OF_TITLE = re.compile(r"in (thousand|million|billion)s")


def oracle(question: Question, tools: Mapping[str, Tool], script: random.Random) -> Episode:
    """Everything right, in as few turns as it takes."""
    return demonstrate(question, tools, script, CAREFUL)


def first_number_of_first_hit(question: Question, tools: Mapping[str, Tool], script: random.Random) -> Episode:
    """Searches for the question, opens the first hit, and answers with its first figure."""
    episode = Episode(tools, prompt_messages(question.text))
    first = _ids(episode.call("search", query=question.text))[:1]
    if not first:
        return episode.finish("ANSWER: 0")
    text = episode.call("cat", id=first[0])
    figures = [figure for figure in _figures(text) if not re.fullmatch(r"20\d\d", figure)] or ["0"]
    return episode.finish(f"{said_answer(figures[0], _unit(text))}\nSOURCE: {first[0]}")


def first_cell_of_the_right_row(question: Question, tools: Mapping[str, Tool], script: random.Random) -> Episode:
    """Finds the section and the row, and then takes whatever stands first."""
    episode = Episode(tools, prompt_messages(question.text))
    episode.call("search", query=search_query(question))
    text = episode.call("cat", id=question.reads[0])
    _, rows = read_table(text)
    label = next((label for label in rows if question.topic.endswith(label)), "")
    figure = rows[label][0] if label and rows[label] else ([*_figures(text), "0"])[0]
    return episode.finish(f"{said_answer(figure, _unit(text))}\nSOURCE: {question.reads[0]}")


def without_tools(question: Question, tools: Mapping[str, Tool], script: random.Random) -> Episode:
    """A number that looks likely, and a citation that does, too."""
    number = f"{script.uniform(1, 60):.1f}"
    answer = f"{said_answer(number, question.unit)}\nSOURCE: {question.code}-T{script.randint(1, 6)}"
    return Episode(tools, prompt_messages(question.text)).finish(answer)


def every_number(question: Question, tools: Mapping[str, Tool], script: random.Random) -> Episode:
    """Opens the hits one after another, and answers with every figure in them, and with every id."""
    episode = Episode(tools, prompt_messages(question.text))
    ids = _ids(episode.call("search", query=search_query(question)))
    texts = episode.call_together(*[("cat", {"id": one}) for one in ids]) if ids else []
    figures = [figure for text in texts for figure in _figures(text)]
    return episode.finish(f"ANSWER: {', '.join(dict.fromkeys(figures))}\nSOURCE: {', '.join(ids)}")


def most_common_answer(training: Sequence[Question]) -> Policy:
    """Says what was right most often in training, without a look at the question."""
    said = Counter(f"{said_answer(f'{one.answer:g}', one.unit)}\nSOURCE: {one.reads[0]}" for one in training)
    (answer, _), *_ = said.most_common(1)

    def policy(question: Question, tools: Mapping[str, Tool], script: random.Random) -> Episode:
        return Episode(tools, prompt_messages(question.text)).finish(answer)

    return policy


def scripted_policies(training: Sequence[Question]) -> dict[str, Policy]:
    """All of them, by name."""
    return {
        "oracle": oracle,
        "demonstrator": demonstrate,
        "first number of the first hit": first_number_of_first_hit,
        "first cell of the right row": first_cell_of_the_right_row,
        "no tools": without_tools,
        "most common answer": most_common_answer(training),
        "every number": every_number,
    }


def roll_out(
    policy: Policy, questions: Sequence[Question], tools: Mapping[str, Tool], seed: int = 0
) -> "list[Rollout]":
    """A policy's rollouts, one for each question, with the real tools; they are not graded."""
    script = random.Random(seed)
    return [policy(one, tools, script).rollout() for one in questions]


def mean_score(rollouts: "Sequence[Rollout]", questions: Sequence[Question], grade: Grade) -> float:
    """The mean of what a grader gives."""
    scores = [grade(sample_of(one), question.row()) for one, question in zip(rollouts, questions, strict=True)]
    return sum(scores) / len(scores)


def _ids(hits: str) -> list[str]:
    return re.findall(r"^[A-Z]+-[TP]\d+", hits, re.M)


def _figures(text: str) -> list[str]:
    """The figures under a section's header."""
    return IN_TEXT.findall("\n".join(text.splitlines()[1:]))


def _unit(text: str) -> str:
    found = UNIT_OF_TITLE.search(text.splitlines()[0]) or re.search(r"\d (thousand|million|billion)", text)
    return found[1] if found else ""
