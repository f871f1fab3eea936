"""A job's plan: the split it would run on, the others there are, and what steps and job cost."""

from dataclasses import dataclass, replace
from typing import Any

from agentrft.planning.generation import Engines, generation_times
from agentrft.planning.job_fields import fields_of
from agentrft.planning.memory import EngineType
from agentrft.planning.model import PlannedModel
from agentrft.planning.prices import PriceTable
from agentrft.planning.reading import PlannedJob
from agentrft.planning.splits import HOUR, Cluster, PlannedSplit, planned_splits
from agentrft.planning.workload import Workload


@dataclass(frozen=True)
class JobCost:
    """Of a whole job on a split.

    Attributes:
        seconds: of all of it, a step's after the other, with validations, the test and a warm start.
        train_s: of its training steps.
        gpu_hours: that are paid for.
        gpu_cost: dollars for these.
        judge_cost: dollars for judges; None where the table lacks one of them.
        rollouts, sampled_tokens, prefill_tokens, tool_calls, judge_calls: of all of it.
    """

    seconds: float
    train_s: float
    gpu_hours: float
    gpu_cost: float
    judge_cost: float | None
    rollouts: int
    sampled_tokens: float
    prefill_tokens: float
    tool_calls: float
    judge_calls: float

    @property
    def cost(self) -> float | None:
        """Dollars; None where a judge's price is not known."""
        return None if self.judge_cost is None else self.gpu_cost + self.judge_cost

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "cost": self.cost}


@dataclass(frozen=True)
class Plan:
    """What was found.

    Attributes:
        model: of the job.
        job: what it does.
        cluster: what it may use.
        splits: every one, best first.
        prices: that were used.
        gpu_hour: dollars of one GPU.
    """

    model: PlannedModel
    job: PlannedJob
    cluster: Cluster
    splits: list[PlannedSplit]
    prices: PriceTable
    gpu_hour: float

    @property
    def fitting(self) -> list[PlannedSplit]:
        """Those that fit, the cheapest first."""
        return [one for one in self.splits if one.fits]

    @property
    def best(self) -> PlannedSplit | None:
        """The cheapest that fits."""
        return next(iter(self.fitting), None)

    @property
    def fastest(self) -> PlannedSplit | None:
        return min(self.fitting, key=lambda one: (one.times.total, one.gpu_cost), default=None)

    @property
    def nearest(self) -> PlannedSplit:
        """Where nothing fits: what lacks least on its fullest device."""
        return max(self.splits, key=lambda one: min(device.spare for device in one.memory))

    def cost_of(self, split: PlannedSplit) -> JobCost:
        """Of the whole job on a split."""
        work, job = self.job.work, self.job
        measured = job.validation_rollouts + job.test_rollouts + job.warm_start_rollouts
        beside_s = _rollouts_s(self.model, work, split, self.cluster, measured)
        warm_s = job.warm_start_tokens / max(1.0, work.unique_tokens) * split.times.update
        train_s = job.steps * split.times.total
        if work.runs_ahead:
            train_s += split.times.rollouts.total  # of the first step, before which nothing was sampled
        rollouts = job.steps * work.rollouts + measured
        share = rollouts / max(1, work.rollouts)
        seconds = train_s + beside_s + warm_s
        hours = split.rented * seconds / HOUR
        return JobCost(
            seconds=seconds,
            train_s=train_s,
            gpu_hours=hours,
            gpu_cost=hours * self.gpu_hour,
            judge_cost=self.judge_cost(rollouts),
            rollouts=rollouts,
            sampled_tokens=share * work.sampled_tokens,
            prefill_tokens=share * work.prefill_tokens,
            tool_calls=share * work.tool_calls,
            judge_calls=share * work.judge_calls,
        )

    def judge_cost(self, rollouts: float) -> float | None:
        """Dollars for the judges of so many rollouts; None where the table lacks one of them."""
        total = 0.0
        for judge in self.job.work.judges:
            each = self.prices.of_judge(judge.model, judge.prompt_tokens, judge.completion_tokens)
            if each is None:
                return None
            total += rollouts * each
        return total

    def fields_of(self, split: PlannedSplit) -> dict[str, Any] | None:
        """What a job file says to run on it; None where it needs servers of the user's own."""
        return fields_of(split, self.cluster)

    def as_dict(self) -> dict[str, Any]:
        best = self.best
        return {
            "model": self.model.name,
            "parameters": self.model.architecture.parameters,
            "trained_parameters": self.model.trained,
            "lora_rank": self.model.lora_rank,
            "weights_bytes": self.model.weights,
            "kv_bytes_per_token": self.model.kv_bytes,
            "device": {**self.cluster.device.__dict__},
            "gpus_per_node": self.cluster.per_node,
            "nodes": self.cluster.nodes,
            "step": self.job.work.as_dict(),
            "steps": self.job.steps,
            **self.job.notes.as_dict(),
            "prices": {"date": self.prices.date, "gpu_hour": self.gpu_hour},
            "judge_cost_per_step": self.judge_cost(self.job.work.rollouts),
            "fits": best is not None,
            "best": None
            if best is None
            else {**best.as_dict(), "job": self.cost_of(best).as_dict(), "job_fields": self.fields_of(best)},
            "splits": [one.as_dict() for one in self.splits],
        }


def make_plan(
    model: PlannedModel,
    job: PlannedJob,
    cluster: Cluster,
    prices: PriceTable,
    *,
    types: tuple[EngineType, ...],
    gpu_hour: float,
) -> Plan:
    """Every split of the cluster, priced.

    Args:
        types: of engines that may be taken.
        gpu_hour: dollars of one GPU.
    """
    splits = planned_splits(model, job.work, cluster, types, gpu_hour=gpu_hour)
    return Plan(model, job, cluster, splits, prices, gpu_hour)


def _rollouts_s(model: PlannedModel, work: Workload, split: PlannedSplit, cluster: Cluster, rollouts: int) -> float:
    """Of rollouts that nothing is learned from, as many at once as the engines hold."""
    if not rollouts:
        return 0.0
    # By themselves, in as many groups as come to that number.
    alone = replace(work, groups=max(1, round(rollouts / work.rollouts_per_group)))
    one = split.split
    sequences = max(1, next(device for device in split.memory if device.role != "learner").sequences)
    engines = Engines(one.engines, one.per_engine, sequences, split.engine_rates)
    return generation_times(model, alone, engines, cluster.device).total
