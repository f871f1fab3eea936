"""Rollouts of a job: filtered and sorted, or group by group."""

from typing import Any

from agentrft.dashboard.queries import SORTS, Filter, Order
from agentrft.dashboard.runs import JobData
from agentrft.report.averages import level

PER_PAGE, GROUPS_PER_PAGE = 50, 60


def rollouts(
    job: JobData, wanted: Filter, *, sort: str = "step", order: Order = "asc", page: int = 1
) -> dict[str, Any]:
    """The page of rollouts.

    Args:
        page: from 1.
    """
    rows, total = job.rollouts.page(wanted, sort=sort, order=order, limit=PER_PAGE, offset=(page - 1) * PER_PAGE)
    return {
        "rollouts": rows,
        "total": total,
        "page": page,
        "pages": max(1, -(-total // PER_PAGE)),
        "sort": sort,
        "order": order,
        "sorts": list(SORTS),
        "filter": vars(wanted),
        "choices": job.choices,
        "steps_missing": job.steps_missing,
    }


def groups(job: JobData, wanted: Filter, *, page: int = 1) -> dict[str, Any]:
    """The page of groups: a row of rollouts for each, and why the update left out what it left out."""
    found = job.rollouts.groups(wanted)
    shown = found[(page - 1) * GROUPS_PER_PAGE : page * GROUPS_PER_PAGE]
    rewards = [one["reward"] for group in found for one in group["rollouts"] if one["reward"] is not None]
    low, high = min(rewards, default=0.0), max(rewards, default=1.0)
    for group in shown:
        own = [one["reward"] for one in group["rollouts"] if one["reward"] is not None]
        group["reward"] = sum(own) / len(own) if own else None
        group["left_out"] = _left_out(group["rollouts"])
        for one in group["rollouts"]:
            reward = one["reward"]
            one["level"] = None if reward is None else round(level(reward, low, high), 3)
    return {
        "alike": _alike(found, low, high),
        "groups": shown,
        "total": len(found),
        "page": page,
        "pages": max(1, -(-len(found) // GROUPS_PER_PAGE)),
        "low": low,
        "high": high,
        "filter": vars(wanted),
        "choices": {name: values for name, values in job.choices.items() if name != "behaviours"},
        "steps_missing": job.steps_missing,
    }


def _alike(groups: list[dict[str, Any]], low: float, high: float) -> dict[str, int]:
    """How many groups have one reward alone, by what that is."""
    counts = {"the lowest": 0, "the highest": 0, "another": 0}
    for group in groups:
        if any(one["left_out"] == "alike" for one in group["rollouts"]):
            reward = next((one["reward"] for one in group["rollouts"] if one["reward"] is not None), None)
            counts["the lowest" if reward == low else "the highest" if reward == high else "another"] += 1
    return counts


def _left_out(rollouts: list[dict[str, Any]]) -> str:
    """In words what of a group the update did not see."""
    broken = sum(one["outcome"] == "infra_failed" for one in rollouts)
    cut = sum(one["left_out"] == "cut off" for one in rollouts)
    reasons = {one["left_out"] for one in rollouts}
    parts = [f"{broken} broke on infrastructure"] if broken else []
    parts += [f"{cut} were cut off and are masked"] if cut else []
    parts += ["all rewards alike: nothing to learn"] if "alike" in reasons else []
    parts += ["a single one is left: nothing to compare it with"] if "alone" in reasons else []
    return "; ".join(parts)
