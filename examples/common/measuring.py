"""Two models on the same test samples: each measure before and after, with the interval of what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

from agentrft.report.averages import mean
from agentrft.report.intervals import paired_interval
from agentrft.rollout import Rollout
from examples.common.system import Measure, System

# Of every system, beside its own.
REWARD = Measure("reward", "reward", "higher")
SLOW = Measure("slow", "over the baseline's p90 latency", "lower")
SLOW_TENTH = 9


@dataclass(frozen=True)
class Change:
    """A measure before and after training.

    Attributes:
        before, after: over all test rollouts, as `Measure.told_as` says.
        low, high: 95 % of the mean paired difference by sample; None with fewer than two samples.
        samples: that both have.
    """

    before: float
    after: float
    low: float | None
    high: float | None
    samples: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def changes(
    system: System, before: Sequence[Rollout], after: Sequence[Rollout], items: Mapping[str, Mapping[str, Any]]
) -> dict[str, Change]:
    """By name every measure that the system tells, its reward and the share of slow rollouts.

    Args:
        items: each sample's row, by its id.
    """
    slow = _tenth_slowest(before)
    found = [[_valued(system, rollout, items[rollout.sample_id], slow) for rollout in side] for side in (before, after)]
    told = (REWARD, *system.told, SLOW)
    return {measure.name: _change(measure, found[0], found[1]) for measure in told}


def _valued(
    system: System, rollout: Rollout, item: Mapping[str, Any], slow: float
) -> tuple[str, dict[str, float | None]]:
    broke = rollout.outcome == "infra_failed"
    values = {} if broke else dict(system.measures(rollout, item))
    values |= {"reward": rollout.reward, "slow": None if broke else float(rollout.latency_s > slow)}
    return rollout.sample_id, values


def _tenth_slowest(rollouts: Sequence[Rollout]) -> float:
    """The seconds that nine of ten rollouts take at most."""
    seconds = [rollout.latency_s for rollout in rollouts if rollout.outcome != "infra_failed"]
    return quantiles(seconds, n=10)[SLOW_TENTH - 1] if len(seconds) > 1 else float("inf")


def _change(
    measure: Measure,
    before: Sequence[tuple[str, Mapping[str, float | None]]],
    after: Sequence[tuple[str, Mapping[str, float | None]]],
) -> Change:
    sides = [_by_sample(measure.name, side) for side in (before, after)]
    means = [{sample: mean(values) for sample, values in side.items()} for side in sides]
    interval = paired_interval(means[0], means[1])
    shared = means[0].keys() & means[1].keys()
    if measure.told_as == "median":
        told = [median([one for values in side.values() for one in values] or [0.0]) for side in sides]
    else:
        told = [mean(side[sample] for sample in shared) for side in means]
    known = len(shared) > 1
    return Change(told[0], told[1], interval.low if known else None, interval.high if known else None, len(shared))


def _by_sample(name: str, side: Sequence[tuple[str, Mapping[str, float | None]]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for sample_id, values in side:
        value = values.get(name)
        if value is not None:
            found.setdefault(sample_id, []).append(value)
    return found
