"""What is published of such systems, from one stored rollout: score, sources, hallucinations, and what it took."""

import re
from collections.abc import Mapping
from typing import Any

from agentrft.rollout import Rollout
from examples.finance.grader import CITED, grade, is_supported, numbers, read, sub_scores
from examples.finance.transcripts import sample_of

CITATION = re.compile(CITED)
PERCENT = re.compile(r"%|percent", re.I)


def measures(rollout: Rollout, row: Mapping[str, Any]) -> dict[str, float | None]:
    """Measures of a rollout at the sample `row`; all None of one that infrastructure broke.

    A rollout that ended without an answer has a score of 0, no right answer and no citation, and no number that could
    be made up.

    Returns: score: of the hardened grader, in [0, 1]. answer_right: 1 for the right number in its unit.
        valid_citation: 1 where the answer cites what it read, all of its evidence, and nothing else.
        missing_citation, invalid_citation: 1 where it cites nothing; where what it cites was not read, or lacks
        evidence.
        hallucinated_numbers: numbers of the answer that were neither read nor calculated from what was.
        turns, calls, tokens: generations, tool calls, and sampled tokens.
    """
    if rollout.outcome == "infra_failed":
        return dict.fromkeys((*QUALITY, "turns", "calls", "tokens"))
    sample, item = sample_of(rollout), dict(row)
    text = rollout.output_text
    parts = sub_scores(sample, item)
    cites, valid = CITATION.search(text.upper()) is not None, parts["citation"] == 1.0
    return {
        "score": grade(sample, item) if text.strip() else 0.0,
        "answer_right": float(parts["answer"] == 1.0),
        "valid_citation": float(valid),
        "missing_citation": float(not cites),
        "invalid_citation": float(cites and not valid),
        "hallucinated_numbers": float(_hallucinated(text, sample)),
        "turns": float(len(rollout.turns)),
        "calls": float(len(rollout.tool_calls)),
        "tokens": float(rollout.sampled_tokens),
    }


QUALITY = ("score", "answer_right", "valid_citation", "missing_citation", "invalid_citation", "hallucinated_numbers")


def _hallucinated(text: str, sample: dict) -> int:
    """Numbers of an answer, in whatever form it has, that nothing supports."""
    _, seen = read(sample)
    unit = "percent" if PERCENT.search(text) else ""
    # As they are written, since how far a number may be rounded is in its decimals.
    given = re.findall(r"[0-9][0-9,]*(?:\.[0-9]+)?", CITATION.sub(" ", text.upper()))
    unsupported = 0
    for one in given:
        found = numbers(one.rstrip(",")) or [0.0]
        decimals = len(one.partition(".")[2])
        unsupported += not is_supported(found[0], decimals, unit, seen)
    return unsupported
