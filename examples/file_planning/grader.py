"""F1 of the files, less prices for files too many and for every turn beyond the second, and a little more for searches
side by side.

A right file counts fully where a search or a reading showed it, and a quarter where it was only named: guesses are
worth trying and never worth more than looking. Turns cost and calls do not, so that asking for several things at once
is free.
"""

import json
import re

PRICE_PER_TURN = 0.08
# One turn that searches and one that answers.
FREE_TURNS = 2
UNSEEN_CREDIT = 0.25
# Naming every file of a search would otherwise be worth more than finding out which, with many a mistake.
PRICE_PER_FILE_TOO_MANY = 0.1
PARALLEL_BONUS = 0.05


def grade(sample: dict, item: dict) -> float:
    """A score in [0, 1 + PARALLEL_BONUS]; 0 where no file is right."""
    named = answered_files(sample["output_text"])
    wanted = set(item["files"])
    looks = looks_of(sample)
    seen = {file for file in named & wanted if any(shows(look, file) for look in looks)}
    credit = len(seen) + UNSEEN_CREDIT * len((named & wanted) - seen)
    # With full credit this is 2 * precision * recall / (precision + recall).
    f1 = 2 * credit / (len(named) + len(wanted)) if named else 0.0
    price = PRICE_PER_TURN * max(0, sample["trace"]["turns"] - FREE_TURNS)
    price += PRICE_PER_FILE_TOO_MANY * max(0, len(named) - len(wanted))
    return max(0.0, f1 - price) + PARALLEL_BONUS * f1 * parallel_share(sample["trace"]["calls"])


def answered_files(text: str) -> set[str]:
    """The lines of an answer as paths. Whatever else is said counts as paths, too, that are wrong."""
    lines = [line.strip().removeprefix("- ").strip("`").removeprefix("./") for line in text.splitlines()]
    return {line for line in lines if line}


def looks_of(sample: dict) -> list[tuple[str, str]]:
    """What each call that shows content asked for, and what it showed: of `read_file` and of `grep`. A listing shows
    names alone."""
    results = {
        message.get("tool_call_id"): message.get("content") or ""
        for message in sample["messages"]
        if message.get("role") == "tool"
    }
    looks = []
    for call, fact in zip(sample["output_tools"], sample["trace"]["calls"], strict=False):
        shown = results.get(call["id"], "")
        arguments = _arguments(call["function"]["arguments"])
        if fact["status"] not in ("ok", "cut") or not shown.strip() or shown.strip() == "(nothing)":
            continue
        if call["function"]["name"] == "read_file":
            looks.append((str(arguments.get("path", "")), ""))
        elif re.search(r"(^|[|&]\s*)grep\b", str(arguments.get("command", ""))):
            looks.append((str(arguments["command"]), shown))
    return looks


def shows(look: tuple[str, str], file: str) -> bool:
    """Whether a call asked for the file by name and was answered, or was shown it; after `cd` by the end of its
    path."""
    asked, shown = look
    if file in (word.strip("'\"").removeprefix("./") for word in asked.split()):
        return True
    paths = {line.split(":", 1)[0].strip().removeprefix("./") for line in shown.splitlines()}
    return any(path == file or (path and file.endswith("/" + path)) for path in paths)


def parallel_share(calls: list[dict]) -> float:
    """Of the turns that call, the share with two or more different calls that succeeded."""
    turns: dict[int, set[tuple[str, str]]] = {}
    for call in calls:
        made = turns.setdefault(call["turn"], set())
        if call["status"] in ("ok", "cut"):
            made.add((call["name"], call["arguments"]))
    return sum(len(made) > 1 for made in turns.values()) / len(turns) if turns else 0.0


def _arguments(text: str) -> dict:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}
