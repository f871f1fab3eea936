"""Scripted policies, scored by the real tools and the real grader: what can be reached, and what a short cut gets.

Only `oracle` knows the answer. `demonstrator` is the agent of the demonstrations. `reader` is what reinforcement
should find: all searches in one turn, and then an answer from what they have in common.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from examples.file_planning.demonstrations import demonstrate
from examples.file_planning.grader import answered_files, grade
from examples.file_planning.prompts import definition_of, is_name, search_words
from examples.file_planning.scripted import Conversation, listed_files, read_file, shell
from examples.file_planning.tools import PlanningTools

MOST_SEARCHES = 3
Row = dict[str, Any]


@dataclass(frozen=True)
class World:
    """What the policies may use beside the tools.

    Attributes:
        files: of each repository, in the order of `ls`.
        usual: the names of files that training's answers have most often, the most common one first.
        script: chance, where a policy has some.
    """

    files: dict[str, list[str]]
    usual: list[str]
    script: random.Random


@dataclass(frozen=True)
class Result:
    """Means of a policy over rows."""

    reward: float
    file_f1: float
    turns: float
    calls: float


Policy = Callable[[Conversation, Row, World], None]


def oracle(talk: Conversation, row: Row, world: World) -> None:
    """Knows the files, and looks at each of them and at the folder in one turn."""
    talk.turn(*[read_file(file, start=1, end=1) for file in row["files"]], shell("ls"))
    talk.answer(row["files"])


def reader(talk: Conversation, row: Row, world: World) -> None:
    """Searches for the definitions of names and for the most telling words, all in one turn. Answers with the files
    that define the names, else with the one that most of the words are in, the rarer ones counting more."""
    words = search_words(row["request"])[:MOST_SEARCHES]
    names = [word for word in words if is_name(word, row["request"])]
    commands = [f'grep -rn "{definition_of(word)}" .' for word in names]
    commands += [f"grep -rlw {word} ." for word in words if not names]
    outputs = [listed_files(output) for output in talk.turn(*map(shell, commands))]
    if names and any(outputs):
        talk.answer(sorted({found[0] for found in outputs if found}))
        return
    if names:
        outputs = [listed_files(output) for output in talk.turn(*(shell(f"grep -rlw {word} .") for word in words))]
    weights: Counter[str] = Counter()
    for found in outputs:
        weights.update({file: 1 / len(found) for file in found})
    best = sorted(weights, key=lambda file: (-weights[file], file))
    talk.answer(best[:1] or world.files[row["repository"]][:1])


def demonstrator(talk: Conversation, row: Row, world: World) -> None:
    """The agent that the demonstrations show; it knows the answer once it has seen it."""
    demonstrate(talk, row, world.script)


def first_hit(talk: Conversation, row: Row, world: World) -> None:
    """Copies the first file of one search, unread."""
    (output,) = talk.turn(shell(f"grep -rlw {search_words(row['request'])[0]} ."))
    talk.answer(listed_files(output)[:1] or world.files[row["repository"]][:1])


def all_hits(talk: Conversation, row: Row, world: World) -> None:
    """Copies all files of one search."""
    (output,) = talk.turn(shell(f"grep -rlw {search_words(row['request'])[0]} ."))
    talk.answer(listed_files(output) or world.files[row["repository"]][:1])


def first_of_listing(talk: Conversation, row: Row, world: World) -> None:
    """Answers with the first file of `ls`."""
    talk.turn(shell("ls"))
    talk.answer(world.files[row["repository"]][:1])


def usual_file(talk: Conversation, row: Row, world: World) -> None:
    """Skips the tools: the file here whose name was most often the answer in training."""
    talk.answer(_usual(row, world))


def names_alone(talk: Conversation, row: Row, world: World) -> None:
    """Skips the tools, though it knows the list of files: the one whose name has most letters of the request's
    words."""
    talk.answer(_by_name(row, world))


def names_after_a_look(talk: Conversation, row: Row, world: World) -> None:
    """The same, with one search that shows as many files as it can, whatever is in them."""
    talk.turn(shell('grep -rlc "" .'))
    talk.answer(_by_name(row, world))


def everything(talk: Conversation, row: Row, world: World) -> None:
    """Names every file."""
    talk.answer(world.files[row["repository"]])


POLICIES: dict[str, Policy] = {
    policy.__name__: policy
    for policy in (
        oracle,
        reader,
        demonstrator,
        first_hit,
        all_hits,
        first_of_listing,
        usual_file,
        names_alone,
        names_after_a_look,
        everything,
    )
}
SHORT_CUTS = tuple(list(POLICIES)[3:])


def play(policy: Policy, rows: Sequence[Row], world: World, tools: PlanningTools) -> Result:
    """Mean results of a policy over rows."""
    samples = []
    for number, row in enumerate(rows):
        talk = Conversation(tools, row, f"{policy.__name__}-{number}")
        policy(talk, row, world)
        samples.append((talk.sample(), row))
    return Result(
        reward=mean(grade(sample, row) for sample, row in samples),
        file_f1=mean(plain_f1(answered_files(sample["output_text"]), set(row["files"])) for sample, row in samples),
        turns=mean(sample["trace"]["turns"] for sample, _ in samples),
        calls=mean(len(sample["output_tools"]) for sample, _ in samples),
    )


def plain_f1(named: set[str], wanted: set[str]) -> float:
    """F1 of two sets of files."""
    return 2 * len(named & wanted) / (len(named) + len(wanted)) if named else 0.0


def usual_names(rows: Sequence[Row]) -> list[str]:
    """The names of files in the answers of rows, the most common one first."""
    counted = Counter(file.rpartition("/")[2] for row in rows for file in row["files"])
    return sorted(counted, key=lambda name: (-counted[name], name))


def _usual(row: Row, world: World) -> list[str]:
    files = world.files[row["repository"]]
    ranks = {name: rank for rank, name in enumerate(world.usual)}
    return [min(files, key=lambda file: (ranks.get(file.rpartition("/")[2], len(ranks)), file))]


def _by_name(row: Row, world: World) -> list[str]:
    words = [word.lower() for word in re.findall(r"[A-Za-z]{3,}", row["request"])]

    def likeness(file: str) -> int:
        parts = re.findall(r"[a-z]{3,}", file.lower().removesuffix(".py"))
        return sum(len(part) for part in parts if any(part in word or word in part for word in words))

    return [max(sorted(world.files[row["repository"]]), key=likeness)]
