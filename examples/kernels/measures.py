"""What is published of kernels: compiled, correct, faster, and how much; with what the rollout took."""

from collections.abc import Mapping
from typing import Any

from agentrft.rollout import Rollout

PARTS = ("compiled", "correct", "faster", "tripped")


def measures(rollout: Rollout, item: Mapping[str, Any]) -> dict[str, float | None]:
    """Of one stored rollout.

    `compiled`, `correct`, `faster` and `tripped` are 1 or 0, `speedup` is against PyTorch and None where the kernel is
    not right. A rollout that infrastructure broke has None everywhere; one that the agent failed has compiled nothing.

    Args:
        item: the sample's row, which says nothing that the grade does not.
    """
    if rollout.outcome == "infra_failed":
        return dict.fromkeys((*PARTS, "speedup", "turns", "calls", "tokens"))
    parts = rollout.grade.sub_scores if rollout.grade is not None else {}
    is_right = parts.get("correct") == 1
    return {
        **{name: parts.get(name, 0.0) for name in PARTS},
        "speedup": parts["speedup"] if is_right else None,
        "turns": float(len(rollout.turns)),
        "calls": float(len(rollout.tool_calls)),
        "tokens": float(rollout.sampled_tokens),
    }
