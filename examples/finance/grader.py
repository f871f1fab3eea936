"""The hardened grader: one number, in its unit, out of what was read in this rollout, with the section that has it.

The answer is exactly two lines, `ANSWER: 8,412 thousand` and `SOURCE: BRK-T2`, and nothing else; the second may be
missing, which costs. Three things are looked at apart, each in [0, 1]:

- `answer`: 1 for the right value; 0.2 for one that is near, or whose sign or unit is wrong; 0 for all else.
- `citation`: the share of the evidence that the cited sections have, as they were read in this rollout, times the
  share of the cited sections that have some. Sections that were not read, or that do not belong to the answer, have
  none.
- `supported`: 1 if the number was read, or calculated from numbers that were read. A number out of nowhere is a
  hallucination, right or not.

What earned the answer multiplies it, so that nothing is paid for a form alone: only the right section is worth a
little by itself, because finding it is the first thing to be learned.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

UNITS = {"": 1.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "percent": 0.01, "%": 0.01}
FIGURE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(?:\.[0-9]{1,6})?"
ANSWER = re.compile(
    rf"ANSWER: *(?P<minus>-?)(?P<bracket>\(?)\$? ?(?P<figure>{FIGURE})(?(bracket)\)?)"
    r" *(?P<unit>|%|percent|thousands?|millions?|billions?)",
    re.I,
)
CITED = r"[A-Z]{2,5}-[TP][0-9]{1,3}"
SOURCE = re.compile(rf"SOURCE: *(?P<ids>{CITED}(?:, *{CITED}){{0,3}})", re.I)
# A figure in a text: not a part of a word, of an id or of a longer number.
IN_TEXT = re.compile(rf"(?<![\w.,]){FIGURE}(?![\w]|[.,][0-9])", re.ASCII)
LONGEST_ANSWER = 200
TOLERANCE = 0.005
# In percentage points, for percentages close to zero.
PERCENT_TOLERANCE = 0.0005
NEAR, NEAR_WORTH = 0.05, 0.2
# What a calculation may have beside what was read: parts of a mean, a percentage, a change of units.
CONSTANTS = {*map(float, range(1, 13)), 100.0, 1000.0, 1_000_000.0}
COST_OF_A_TURN = 0.02
WORTH_OF_THE_SECTION = 0.1


@dataclass(frozen=True)
class Said:
    """What an answer says: a number with its sign, the decimals it is written with, its unit, and the ids it cites."""

    number: float
    decimals: int
    unit: str
    cited: tuple[str, ...]


def grade(sample: dict, item: dict) -> float:
    """A score in [0, 1]: 1 for the right number that was read or calculated, with its section, in as few turns as that
    takes."""
    parts = sub_scores(sample, item)
    earned = parts["answer"] * (0.4 + 0.4 * parts["citation"] + 0.2 * parts["supported"])
    found = WORTH_OF_THE_SECTION * (1 - parts["answer"]) * parts["citation"]
    cost = COST_OF_A_TURN * max(0, _turns(sample) - item["turns"])
    return min(1.0, max(0.0, earned + found - cost))


def sub_scores(sample: dict, item: dict) -> dict[str, float]:
    """`answer`, `citation` and `supported`, each in [0, 1]; all 0 where the answer has not the form."""
    said = parse(sample["output_text"])
    if said is None:
        return {"answer": 0.0, "citation": 0.0, "supported": 0.0}
    sections, seen = read(sample)
    return {
        "answer": _rightness(said, item),
        "citation": citation(said.cited, sections, item),
        "supported": float(is_supported(abs(said.number), said.decimals, said.unit, seen)),
    }


def parse(text: str) -> Said | None:
    """What an answer says; None where it is anything but the two lines."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not 1 <= len(lines) <= 2 or len(text) > LONGEST_ANSWER:
        return None
    answer = ANSWER.fullmatch(lines[0])
    source = SOURCE.fullmatch(lines[1]) if len(lines) == 2 else None
    if answer is None or (len(lines) == 2 and source is None):
        return None
    value = _value(answer["figure"])
    # As reports print what is below zero: (89).
    sign = -1 if answer["minus"] or answer["bracket"] else 1
    unit = answer["unit"].lower()
    unit = "percent" if unit in ("%", "percent") else unit.removesuffix("s")
    ids = [] if source is None else re.split(r", *", source["ids"].upper())
    return Said(sign * value, len(answer["figure"].partition(".")[2]), unit, tuple(dict.fromkeys(ids)))


def read(sample: dict) -> tuple[dict[str, str], list[float]]:
    """What the agent read in this rollout: the text of sections by id, and all numbers that it may use.

    Those are the figures of sections, and results of calculations whose numbers were read before them. A calculation on
    numbers that the agent made up is no source, and neither is the message of a call that failed.
    """
    sections: dict[str, str] = {}
    seen: list[float] = []
    calls: dict[str, dict[str, Any]] = {}
    failed = _failed_calls(sample)
    for message in sample.get("messages") or []:
        for call in message.get("tool_calls") or []:
            calls[call["id"]] = call["function"]
        call_id = message.get("tool_call_id")
        if message.get("role") != "tool" or call_id in failed or call_id not in calls:
            continue
        name, text = calls[call_id]["name"], message.get("content") or ""
        if name == "cat" and re.match(rf"{CITED}\s", text):
            sections[text.split()[0]] = text
            # Without the header, whose id has digits of its own.
            seen += numbers("\n".join(text.splitlines()[1:]))
        elif name == "calculate" and _is_grounded(calls[call_id], seen):
            seen += [abs(one) for one in numbers(text.replace("-", " "))]
    return sections, seen


def citation(cited: tuple[str, ...], sections: dict[str, str], item: dict) -> float:
    """How well the cited sections hold the evidence of the row."""
    good = {one: _evidence_in(sections[one], item) for one in cited if one in item["sources"] and one in sections}
    good = {one: found for one, found in good.items() if found}
    if not good:
        return 0.0
    held = set().union(*good.values())
    return len(held) / len(set(item["evidence"])) * len(good) / len(cited)


def numbers(text: str) -> list[float]:
    """The figures of a text, without signs; digits of words and ids are none."""
    return [_value(one) for one in IN_TEXT.findall(text)]


def is_supported(number: float, decimals: int, unit: str, seen: list[float]) -> bool:
    """Whether a number, without its sign, is one of those seen: rounded, in another unit, or a fraction in percent."""
    shifts = [1.0, 1e3, 1e-3, 1e6, 1e-6] + ([100.0] if unit == "percent" else [])
    # Half of the last decimal, but never so much that any number would do.
    rounding = min(0.5 * 10.0**-decimals, NEAR * number) + 1e-9 * number
    return any(abs(number - one * shift) <= rounding for one in seen for shift in shifts)


def _rightness(said: Said, item: dict) -> float:
    right, right_unit = item["answer"], item["unit"]
    # Where a data set does not say the unit, any will do, and a percentage may be a fraction.
    known = right_unit is not None
    scale = UNITS[said.unit if known or said.unit == "percent" else ""]
    given, wanted = said.number * scale, right * UNITS[right_unit if known else ""]
    off, near = abs(given - wanted), NEAR * abs(wanted)
    # Two decimals are as exact as reports are, of a small number, too.
    rounding = 0.5 * 10.0**-said.decimals * scale * (1 + 1e-9) if said.decimals >= 2 else 0.0
    least = PERCENT_TOLERANCE if right_unit == "percent" else 0.0
    if off <= max(TOLERANCE * abs(wanted), min(near, rounding), least):
        return 1.0
    is_slip = abs(abs(said.number) - abs(right)) <= TOLERANCE * abs(right)
    return NEAR_WORTH if off <= near or is_slip else 0.0


def _evidence_in(text: str, item: dict) -> set[str]:
    found = numbers(text)
    return {one for one in item["evidence"] if any(abs(_value(one) - other) < 1e-9 for other in found)}


def _is_grounded(call: dict[str, Any], seen: list[float]) -> bool:
    """Whether all numbers of a calculation were read, constants aside, and at least one was."""
    try:
        expression = json.loads(call["arguments"])["expression"]
    except (ValueError, KeyError, TypeError):
        return False
    # A minus sign is no part of a number, nor a bracket.
    given = numbers(re.sub(r"[^0-9.,]+", " ", str(expression)))
    was_read = [any(abs(one - other) <= 1e-9 * max(1.0, other) for other in seen) for one in given]
    return any(was_read) and all(found or one in CONSTANTS for one, found in zip(given, was_read, strict=True))


def _failed_calls(sample: dict) -> set[str]:
    """Ids of the calls that were not made, or that were answered with an error."""
    facts = (sample.get("trace") or {}).get("calls") or []
    calls = sample.get("output_tools") or []
    return {call["id"] for call, fact in zip(calls, facts, strict=False) if fact["status"] not in ("ok", "cut")}


def _turns(sample: dict) -> int:
    """Generations of the model. Several calls in one of them cost as much as one."""
    counted = (sample.get("trace") or {}).get("turns") or 0
    return counted or sum(message.get("role") == "assistant" for message in sample.get("messages") or [])


def _value(figure: str) -> float:
    return float(figure.replace(",", ""))
