"""What a behaviour is: something that a rollout does or does not do, named in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["calls", "arguments", "source", "form", "phrase", "failure", "amount", "group"]
# What is counted is told apart up to here; more is "or more".
COUNTS = ("no", "one", "two", "three")
MOST_COUNTED = 4


@dataclass(frozen=True, order=True)
class Behaviour:
    """Something that a rollout shows.

    Attributes:
        name: in words that follow "The agent": "calls no tool", "says 'as an expert'".
        kind: what it is about: its calls, their arguments, where the answer came from ("source"), the answer's form,
            a phrase of it, how it failed, how much of something there is, or what it has in common with its group: what
            comes of the others explains nothing, since right answers are alike, too.
        given: the name of another behaviour without which this one is neither shown nor lacking, such as a call of the
            tool whose argument it is about; empty where every rollout could show it.
    """

    name: str
    kind: Kind
    given: str = ""


def counted(count: int, noun: str) -> str:
    """ "one call", "two calls", "four calls or more"."""
    if count >= MOST_COUNTED:
        return f"four {noun}s or more"
    return f"{COUNTS[count]} {noun}{'' if count == 1 else 's'}"


def length_in_words(text: str, sizes: Sequence[tuple[int, str]], longer: str) -> str:
    """How long a text is, in words for it.

    Args:
        sizes: the most words of each size, and its name; rising.
        longer: the name of what is longer than all.
    """
    count = len(text.split())
    return next((name for most, name in sizes if count <= most), longer)


def times(count: int) -> str:
    """ "once", "twice", "three times", "four times or more"."""
    return ("never", "once", "twice", "three times")[count] if count < MOST_COUNTED else "four times or more"
