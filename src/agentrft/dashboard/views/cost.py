"""What a job has taken so far. Money is told only of what somebody gave a price for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prices:
    """In whatever money they are in; None of what has no price.

    Attributes:
        hour: of an hour in which the job works.
        judge_tokens: of a million tokens of judges.
    """

    hour: float | None = None
    judge_tokens: float | None = None


def cost(metrics: Sequence[Mapping[str, Any]], prices: Prices = Prices()) -> dict[str, Any]:
    """Sums over all committed steps, validations and tests included.

    `prompt_tokens` are those that rollouts were given, `unique_tokens` those that updates computed, `judge_calls` the
    scores of graders that took tokens, `hours` those in which steps were worked on.
    """
    usage = [row.get("agent_usage") or {} for row in metrics]
    judged = [
        panel.get("grades") or 0
        for row in metrics
        for panel in (row.get("graders") or {}).values()
        if any((panel.get("usage") or {}).values())
    ]
    hours = sum(row.get("step_s") or 0.0 for row in metrics) / 3600
    judge_tokens = sum(tokens_of(row.get("judge_tokens") or {}) for row in metrics)
    parts = [
        price * amount
        for price, amount in ((prices.hour, hours), (prices.judge_tokens, judge_tokens / 1e6))
        if price is not None
    ]
    return {
        "prompt_tokens": sum(one.get("prompt_tokens") or 0 for one in usage),
        "sampled_tokens": sum(map(_sampled_tokens, metrics)),
        "unique_tokens": sum(row.get("unique_tokens") or 0 for row in metrics),
        "tool_calls": sum(sum((row.get("tool_statuses") or {}).values()) for row in metrics),
        "judge_calls": sum(judged),
        "judge_tokens": judge_tokens,
        "hours": hours,
        "money": sum(parts) if parts else None,
    }


def _sampled_tokens(row: Mapping[str, Any]) -> float:
    """Older records have no sum, and a mean over the rollouts with a reward."""
    known = (row.get("agent_usage") or {}).get("completion_tokens")
    return (row.get("sampled_tokens_mean") or 0) * (row.get("rollouts") or 0) if known is None else known


def tokens_of(used: Mapping[str, int]) -> int:
    """What judges took in all: they may say a sum beside its parts."""
    parts = used.get("prompt_tokens", 0) + used.get("completion_tokens", 0)
    return used.get("total_tokens") or parts
