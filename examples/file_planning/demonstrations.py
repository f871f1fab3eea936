"""Demonstrations by a scripted agent that is mediocre on purpose.

It knows the form of calls and of answers, and reads what it finds, which is what the warm start has to teach. But it
looks around first, mostly searches one word at a turn, reads files whose names it has already, and searches again what
it knows. That leaves reinforcement to find out what can be left out, and what can be asked in one turn.
"""

import random
from typing import Any

from examples.file_planning.prompts import definition_of, is_name, search_words
from examples.file_planning.scripted import Asked, Conversation, listed_files, read_file, shell

LISTING_SHARE = 0.75
TOGETHER_SHARE = 0.25
READING_SHARE = 0.8
AGAIN_SHARE = 0.6
STOP_SHARE = 0.2
LINES_READ = 6
MOST_WORDS = 3
MOST_SEARCHES = 4


def demonstrate(talk: Conversation, row: dict[str, Any], script: random.Random) -> bool:
    """Have the conversation; whether its searches showed all right files, so that it is worth showing."""
    shown: list[str] = []
    if script.random() < LISTING_SHARE:
        talk.turn(shell("ls"))
    pending = searches(row["request"])[:MOST_SEARCHES]
    together = 2 if script.random() < TOGETHER_SHARE else 1
    while pending and not (set(row["files"]) <= set(shown) and script.random() < STOP_SHARE):
        calls, pending = pending[:together], pending[together:]
        for output in talk.turn(*calls):
            shown += listed_files(output)
    right = [file for file in row["files"] if file in shown]
    files = right or shown[:1] or ["__init__.py"]
    if script.random() < READING_SHARE:
        talk.turn(read_file(files[0], start=1, end=LINES_READ))
    if script.random() < AGAIN_SHARE:
        word = search_words(row["request"])[0]
        talk.turn(shell(f"grep -nw {word} {files[0]}"))
    talk.answer(files)
    return len(right) == len(row["files"])


def searches(request: str) -> list[Asked]:
    """The searches for a request's words: where a name occurs and where it is defined, where a plain word occurs."""
    found: list[Asked] = []
    for word in search_words(request)[:MOST_WORDS]:
        found.append(shell(f"grep -rlw {word} ."))
        if is_name(word, request):
            found.append(shell(f'grep -rn "{definition_of(word)}" .'))
    return found
