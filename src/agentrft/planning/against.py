"""What a stored job took, beside what a plan says of it: first with lengths as they were assumed, then as they were."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agentrft.errors import UserError
from agentrft.planning.model import PlannedModel
from agentrft.planning.splits import HOUR, Cluster, PlannedSplit, Split, plan_split
from agentrft.planning.workload import Workload
from agentrft.store.rows import as_mapping


@dataclass(frozen=True)
class Took:
    """Means over a job's training steps, in seconds, tokens and calls; or what a plan says of them.

    Attributes:
        step_s: from step to step, without checkpoints.
        rollout_s: of rollouts, tools and graders in it.
        engine_s: while the engine computed.
        update_s: of the update.
        publish_s: of what is left, the way of the weights to the engine above all.
        rollouts, sampled_tokens, unique_tokens, tool_calls, grades: of a step; unique tokens are those that the update
            computed.
        gpu_hours: of a step.
        cost: of a step, in dollars.
    """

    step_s: float
    rollout_s: float
    engine_s: float
    update_s: float
    publish_s: float
    rollouts: float
    sampled_tokens: float
    unique_tokens: float
    tool_calls: float
    grades: float
    gpu_hours: float
    cost: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def train_rows(metrics: Sequence[Mapping[str, Any]], job_id: str) -> list[Mapping[str, Any]]:
    """The training steps of a job's metrics.

    Raises:
        UserError: none is done yet.
    """
    rows = [row for row in metrics if row["phase"] == "train"]
    if not rows:
        raise UserError(
            f"{job_id} has no training step that is done, so there is nothing to compare a plan with.",
            "Wait for one; `agentrft jobs` says how far it is.",
        )
    return rows


def took(rows: Sequence[Mapping[str, Any]], *, rented: int, gpu_hour: float) -> Took:
    """Of training steps that are done."""
    step_s = _mean(rows, "step_s")
    return Took(
        step_s=step_s,
        rollout_s=_mean(rows, "rollout_s"),
        engine_s=_mean(rows, "engine_busy_s"),
        update_s=_mean(rows, "update_s"),
        publish_s=max(0.0, step_s - _mean(rows, "waited_s") - _mean(rows, "update_s")),
        rollouts=_mean(rows, "rollouts"),
        sampled_tokens=_per_rollout(rows, "sampled_tokens_mean"),
        unique_tokens=_mean(rows, "unique_tokens"),
        tool_calls=_per_rollout(rows, "tool_calls_mean"),
        grades=sum(_grades(row) for row in rows) / len(rows),
        gpu_hours=rented * step_s / HOUR,
        cost=rented * step_s / HOUR * gpu_hour,
    )


def planned_took(work: Workload, one: PlannedSplit, *, gpu_hour: float) -> Took:
    """The same of a plan."""
    times = one.times
    return Took(
        step_s=times.total,
        rollout_s=times.rollouts.total,
        engine_s=times.rollouts.engine,
        update_s=times.update,
        publish_s=times.publish,
        rollouts=work.rollouts,
        sampled_tokens=work.sampled_tokens,
        unique_tokens=work.unique_tokens * work.update_epochs,
        tool_calls=work.tool_calls,
        grades=work.rollouts,
        gpu_hours=one.gpu_hours,
        cost=one.gpu_hours * gpu_hour,
    )


def as_it_was(work: Workload, rows: Sequence[Mapping[str, Any]]) -> Workload:
    """A step with the lengths, calls and waits that a job's steps had."""
    rollouts = max(1.0, sum(row["rollouts"] for row in rows))
    turns = max(1.0, _of_usage(rows, "turns") / rollouts)
    sampled = _per_rollout(rows, "sampled_tokens_mean") * len(rows) / rollouts
    trained = sum(row["groups_trained"] for row in rows)
    epochs = max(1, work.update_epochs)
    group = max(1.0, _mean(rows, "rollouts") / max(1.0, _mean(rows, "samples")))
    # What was computed of a rollout in an epoch, without anything shared.
    whole = sum(row["total_tokens"] for row in rows) / max(1.0, trained * group * epochs)
    unique = sum(row["unique_tokens"] for row in rows) / max(1.0, trained * epochs)
    results = _of_tools(rows, "tokens_per_call") / rollouts
    own = sampled + results
    prompt = max(1.0, whole - own) if trained else work.prompt_tokens
    calls = _per_rollout(rows, "tool_calls_mean") * len(rows) / rollouts
    return replace(
        work,
        groups=max(1, round(_mean(rows, "samples"))),
        rollouts_per_group=max(1, round(group)),
        prompt_tokens=prompt,
        turns=turns,
        turn_tokens=sampled / turns,
        result_tokens=results / (turns - 1) if turns > 1 else 0.0,
        calls_per_turn=calls / (turns - 1) if turns > 1 else 0.0,
        tool_s=_of_tools(rows, "latency_mean_s") / max(1.0, _of_tools(rows, None)),
        grade_s=_mean(rows, "grader_latency_mean_s"),
        merged_tokens=max(0.0, prompt + group * own - unique) if trained else 0.0,
        trained_groups=trained / len(rows),
        minibatches=max(1, round(_mean(rows, "optimizer_steps") / epochs)),
    )


def compared(
    model: PlannedModel,
    work: Workload,
    cluster: Cluster,
    split: Split,
    rows: Sequence[Mapping[str, Any]],
    *,
    gpu_hour: float,
) -> dict[str, Took]:
    """`planned` by what was assumed, `planned_as_it_was` by the lengths that its steps had, and `measured`."""
    found = {
        name: planned_took(one, plan_split(model, one, cluster, split, gpu_hour=gpu_hour), gpu_hour=gpu_hour)
        for name, one in (("planned", work), ("planned_as_it_was", as_it_was(work, rows)))
    }
    return {**found, "measured": took(rows, rented=cluster.rented(split.used), gpu_hour=gpu_hour)}


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(float(row.get(name) or 0.0) for row in rows) / len(rows)


def _per_rollout(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Of a step, by a mean over its rollouts."""
    return sum(float(row.get(name) or 0.0) * row["rollouts"] for row in rows) / len(rows)


def _of_usage(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(as_mapping(row.get("agent_usage")).get(name, 0) for row in rows)


def _grades(row: Mapping[str, Any]) -> float:
    return max((as_mapping(one).get("grades", 0) for one in as_mapping(row.get("graders")).values()), default=0)


def _of_tools(rows: Sequence[Mapping[str, Any]], name: str | None) -> float:
    """Sum over all calls of a tool's mean; None counts the calls."""
    total = 0.0
    for row in rows:
        for one in map(as_mapping, as_mapping(row.get("tools")).values()):
            made = one.get("calls_per_rollout", 0.0) * row["rollouts"]
            total += made * (1.0 if name is None else one.get(name, 0.0))
    return total
