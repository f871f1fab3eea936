"""F1 over the codes of a visit, with part of the credit for a close code, less a price for codes too many and for being
slow."""

import re

CODE = re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?")
CATEGORY_CHARACTERS = 3
SAME_CATEGORY = 0.25
# No note has more diagnoses than 8. Further codes earn nothing, and still count as given.
MOST_CODES = 12
# Listing every hit of a search would otherwise be worth more than reading them with many a mistake.
PRICE_PER_CODE_TOO_MANY = 0.25
# One turn with all searches, one with the answer. Calls side by side are one turn and cost nothing more.
TURNS_NEEDED = 2
PRICE_PER_TURN = 0.08
FREE_TOOL_SECONDS = 2.0
PRICE_PER_TOOL_SECOND = 0.02
MOST_FOR_TOOL_SECONDS = 0.1


def grade(sample: dict, item: dict) -> float:
    """A score in [0, 1]: the F1 of the answer's codes, times what being slow leaves of it.

    A code of the note counts 1, another of the same category a quarter, each code of the note once. A line that is no
    code counts as a wrong one. The price is a share of the F1: an answer of no worth earns nothing for being quick.
    More codes than the note has cost besides what they cost the F1.
    """
    parts = sub_scores(sample, item)
    both = parts["precision"] + parts["recall"]
    f1 = 2 * parts["precision"] * parts["recall"] / both if both else 0.0
    too_many = max(0, len(answer_codes(sample["output_text"])) - len(set(item["answer"])))
    return f1 * max(0.0, 1.0 - price(sample["trace"]) - PRICE_PER_CODE_TOO_MANY * too_many)


def sub_scores(sample: dict, item: dict) -> dict[str, float]:
    """Precision and recall, each with the credit for close codes; both 0 for an empty answer."""
    given, right = answer_codes(sample["output_text"]), set(item["answer"])
    earned = credit(given[:MOST_CODES], right)
    return {"precision": earned / max(1, len(given)), "recall": earned / len(right)}


def answer_codes(text: str) -> list[str]:
    """The lines of an answer without repetitions; those that are no code are among them, as they stand."""
    lines = (line.strip().upper() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


def credit(given: list[str], right: set[str]) -> float:
    """What the given codes earn, where 1 is one right code."""
    exact = right & set(given)
    missed = [code[:CATEGORY_CHARACTERS] for code in right - exact]
    close = 0
    for code in given:
        if code not in exact and CODE.fullmatch(code) and code[:CATEGORY_CHARACTERS] in missed:
            missed.remove(code[:CATEGORY_CHARACTERS])
            close += 1
    return len(exact) + SAME_CATEGORY * close


def price(trace: dict) -> float:
    """The share of the score that turns beyond those needed and long waits for tools cost."""
    slowest: dict[int, float] = {}
    for call in trace["calls"]:
        slowest[call["turn"]] = max(slowest.get(call["turn"], 0.0), call["latency_s"])
    waited = max(0.0, sum(slowest.values()) - FREE_TOOL_SECONDS)
    turns = max(0, trace["turns"] - TURNS_NEEDED)
    return PRICE_PER_TURN * turns + min(MOST_FOR_TOOL_SECONDS, PRICE_PER_TOOL_SECOND * waited)
