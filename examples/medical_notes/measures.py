"""What is published of medical coding systems, from one stored rollout: F1 of the codes, and how long it took."""

from collections.abc import Mapping, Set
from typing import Any

from agentrft.rollout import Rollout
from examples.medical_notes.codes import category
from examples.medical_notes.grader import answer_codes


def measures(rollout: Rollout, item: Mapping[str, Any]) -> dict[str, float | None]:
    """The measures of one rollout; None where one has no value.

    `f1`, `precision`, `recall`: of the exact codes; precision has no value where no code was given.
    `category_f1`: of the first three characters.
    `false_codes_from_negations`: share of the given codes whose diagnosis the note mentions as denied, past, in the
    family or suspected.
    `unseen_codes`: share of the given codes that no search showed.
    `turns`, `calls`, `output_tokens`; `latency_s` in seconds, with what tools and the engine made it wait.
    """
    given, right = set(answer_codes(rollout.output_text)), set(item["answer"])
    mentioned = {finding["code"] for finding in item["findings"]} - right
    seen = {line.split()[0] for call in rollout.tool_calls for line in call.output.splitlines() if line.strip()}
    return {
        "f1": _f1(given, right),
        "precision": _share(given & right, given),
        "recall": _share(given & right, right),
        "category_f1": _f1({category(code) for code in given}, {category(code) for code in right}),
        "false_codes_from_negations": _share(given & mentioned, given),
        "unseen_codes": _share(given - seen, given),
        "turns": float(len(rollout.turns)),
        "calls": float(len(rollout.tool_calls)),
        "latency_s": rollout.latency_s,
        "output_tokens": float(rollout.sampled_tokens),
    }


def _f1(given: Set[str], right: Set[str]) -> float:
    return 2 * len(given & right) / (len(given) + len(right))


def _share(part: Set[str], whole: Set[str]) -> float | None:
    return len(part) / len(whole) if whole else None
