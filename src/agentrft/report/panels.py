"""What each tool and each grader took in a set of rollouts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from agentrft import wire
from agentrft.graders import GraderUse
from agentrft.graders.base import MISSING_SAMPLE_KEY
from agentrft.graders.uses import added_counts
from agentrft.report.averages import mean
from agentrft.rollout.record import Rollout

JSON_ANSWER = "sample.output_json"


def tool_panels(rollouts: Sequence[Rollout]) -> dict[str, dict[str, float]]:
    """What each tool was asked and answered. Calls of a turn share the tokens of its answers evenly.

    What was called by the name of no tool, or by none, is no tool: `tool_statuses` counts it.
    """
    calls: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    unknown = {""}
    for rollout in rollouts:
        for number, turn in enumerate(rollout.turns):
            following = rollout.turns[number + 1] if number + 1 < len(rollout.turns) else None
            answers = len(following.prompt_ids) if following and number + 1 not in rollout.row_starts else 0
            for call in turn.tool_calls:
                is_error = call.status not in ("ok", "cut")
                unknown.update([call.name] if call.status == "unknown_tool" else [])
                calls[call.name].append((answers / len(turn.tool_calls), call.latency_s, is_error))
    return {
        name: {
            "calls_per_rollout": len(made) / len(rollouts),
            "tokens_per_call": mean(tokens for tokens, _, _ in made),
            "latency_mean_s": mean(latency_s for _, latency_s, _ in made),
            "errors": sum(is_error for _, _, is_error in made),
        }
        for name, made in sorted(calls.items())
        if name not in unknown
    }


def grader_panels(rollouts: Sequence[Rollout]) -> dict[str, dict[str, Any]]:
    """What each grader took, also for rollouts that got no reward in the end."""
    uses: dict[str, list[GraderUse]] = defaultdict(list)
    unparsed = Counter[str]()
    for rollout in rollouts:
        for name, use in rollout.graders.items():
            uses[name].append(use)
        if _answer_is_unparsed(rollout):
            unparsed.update({name: use.faults.get(MISSING_SAMPLE_KEY, 0) for name, use in rollout.graders.items()})
    return {
        name: {
            "latency_mean_s": mean(use.latency_s for use in some if use.latency_s is not None),
            "usage": added_counts(use.usage for use in some),
            "faults": added_counts(use.faults for use in some),
            "grades": sum(use.latency_s is not None for use in some),
            "unparsed": unparsed[name],
        }
        for name, some in sorted(uses.items())
    }


def _answer_is_unparsed(rollout: Rollout) -> bool:
    """Whether its grader found nothing because the answer, which should be JSON, is none."""
    missing = [] if rollout.grade is None else rollout.grade.missing
    if not missing or not all(reference.startswith(JSON_ANSWER) for reference in missing):
        return False
    try:
        wire.parse(rollout.output_text, lossy=True)
    except wire.WireError:
        return True
    return False
