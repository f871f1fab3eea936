"""What is measured of a rollout: how right its files are, and in how many turns it found them."""

from collections.abc import Mapping
from typing import Any

from agentrft.rollout import Rollout, grader_sample
from examples.file_planning.grader import answered_files, looks_of, parallel_share, shows


def measures(rollout: Rollout, item: Mapping[str, Any]) -> dict[str, float | None]:
    """Measures by name; one is None where the rollout has nothing to measure it of.

    file_f1, precision, recall: of the answered files; 0 without an answer. None of a rollout that infrastructure broke.
    turns: generations, the answer's included. back_and_forths: those of them that called tools.
    calls: tool calls, whatever came of them.
    parallel_turn_share: of the turns that call, the share with two or more different calls that succeeded.
    answers_seen: of the answered files, the share that a search or a reading had shown.
    """
    if rollout.outcome == "infra_failed":
        return dict.fromkeys(NAMES)
    named, wanted = answered_files(rollout.output_text), set(item["files"])
    right = len(named & wanted)
    sample = grader_sample(rollout).as_payload()
    looks = looks_of(sample)
    calling = sum(bool(turn.tool_calls) for turn in rollout.turns)
    return {
        "file_f1": 2 * right / (len(named) + len(wanted)),
        "precision": right / len(named) if named else 0.0,
        "recall": right / len(wanted),
        "turns": float(len(rollout.turns)),
        "back_and_forths": float(calling),
        "calls": float(len(rollout.tool_calls)),
        "parallel_turn_share": parallel_share(sample["trace"]["calls"]) if calling else None,
        "answers_seen": sum(any(shows(look, file) for look in looks) for file in named) / len(named) if named else None,
    }


NAMES = (
    "file_f1",
    "precision",
    "recall",
    "turns",
    "back_and_forths",
    "calls",
    "parallel_turn_share",
    "answers_seen",
)
