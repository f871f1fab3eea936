"""Partial credit for a code that is close, less a small cost for every search beyond the first."""

import re

CODE = re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?")
CATEGORY, SUBCATEGORY = 3, 5
COST_PER_EXTRA_CALL = 0.1


def grade(sample: dict, item: dict) -> float:
    """A score in [0, 1]; 0 for an answer that is anything but one code.

    1.0 for the right code, 0.5 for another of its subcategory (the same `A01.0`), 0.25 for another of its
    category (the same `A01`); less 0.1 per tool call beyond the first, but never below 0.
    """
    answer = sample["output_text"].strip().upper().rstrip(".")
    extra_calls = max(0, len(sample["output_tools"]) - 1)
    return max(0.0, _closeness(answer, item["answer"]) - COST_PER_EXTRA_CALL * extra_calls)


def _closeness(answer: str, right: str) -> float:
    if CODE.fullmatch(answer) is None:
        return 0.0
    if answer == right:
        return 1.0
    if len(right) > SUBCATEGORY and answer[:SUBCATEGORY] == right[:SUBCATEGORY]:
        return 0.5
    return 0.25 if answer[:CATEGORY] == right[:CATEGORY] else 0.0
