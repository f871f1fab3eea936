"""All training rollouts of a job as columns, and what they say about one behaviour.

Rollouts of a group are alike, so that everything is first added up within groups, and groups are what is counted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.facts import RolloutFacts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Early and late are so much of the steps each.
WINDOW_SHARE = 1 / 3
# Amounts of which more than the median of the early steps is a behaviour; "{}" is that median.
AMOUNTS = {
    "answer_words": "gives a longer answer (more than {} words)",
    "sampled_tokens": "writes more (over {} tokens in all)",
    "reasoning_tokens": "thinks longer (over {} tokens)",
    "calls": "makes more calls (over {})",
}
# Of fewer groups nothing is said.
LEAST_GROUPS = 6


@dataclass(frozen=True)
class Evidence:
    """The rollouts that have a reward, in any order.

    Attributes:
        step, group: of each; groups are numbered through the job.
        weight: sampled tokens of each.
        holdouts: scores by name; not a number where there is none.
        members: by behaviour, the numbers of the rollouts that show it, rising.
        ids: trace ids.
    """

    step: Ints
    group: Ints
    reward: Floats
    advantage: Floats
    weight: Floats
    holdouts: dict[str, Floats]
    members: dict[Behaviour, Ints]
    ids: Sequence[str]

    @classmethod
    def of(cls, facts: Iterable[RolloutFacts], known: Mapping[str, Behaviour]) -> "Evidence":
        """Of rollouts' facts; `known` has the behaviours that they name."""
        rewarded = [one for one in facts if one.reward is not None]
        members: dict[str, list[int]] = {}
        for number, one in enumerate(rewarded):
            for name in one.behaviours:
                members.setdefault(name, []).append(number)
        columns = {name: np.array([getattr(one, name) for one in rewarded], dtype=np.float64) for name in AMOUNTS}
        names = sorted({name for one in rewarded for name in one.holdout_scores})
        return cls.of_columns(
            step=np.array([one.step for one in rewarded], dtype=np.int64),
            sample=[one.sample_id for one in rewarded],
            reward=np.array([one.reward for one in rewarded], dtype=np.float64),
            advantage=np.array([one.advantage or 0.0 for one in rewarded], dtype=np.float64),
            holdouts={
                name: np.array([one.holdout_scores.get(name, math.nan) for one in rewarded], dtype=np.float64)
                for name in names
            },
            amounts=columns,
            members={known[name]: np.array(rows, dtype=np.int64) for name, rows in members.items()},
            ids=[one.trace_id for one in rewarded],
        )

    @classmethod
    def of_columns(
        cls,
        *,
        step: Ints,
        sample: Sequence[str],
        reward: Floats,
        advantage: Floats,
        holdouts: dict[str, Floats],
        amounts: Mapping[str, Floats],
        members: Mapping[Behaviour, Ints],
        ids: Sequence[str],
    ) -> "Evidence":
        """Of the same in columns, each over the rollouts that have a reward; `sample` and `ids` are their names."""
        places: dict[tuple[int, str], int] = {}
        group = np.array(
            [places.setdefault(place, len(places)) for place in zip(step.tolist(), sample, strict=True)], dtype=np.int64
        )
        found = cls(step, group, reward, advantage, amounts["sampled_tokens"], holdouts, dict(members), ids)
        found.members.update(found._amounts(amounts))
        return found

    @property
    def groups(self) -> int:
        return len(self.group_step)

    @cached_property
    def group_step(self) -> Ints:
        """The step of each group."""
        steps = np.zeros(int(self.group.max(initial=-1)) + 1, dtype=np.int64)
        steps[self.group] = self.step
        return steps

    @property
    def early(self) -> tuple[int, int]:
        """The first and the last of the first third of the steps."""
        return self._windows[0]

    @property
    def late(self) -> tuple[int, int]:
        """The first and the last of the last third of the steps."""
        return self._windows[1]

    @cached_property
    def _windows(self) -> tuple[tuple[int, int], tuple[int, int]]:
        steps = np.unique(self.step)
        if not len(steps):
            return (0, 0), (0, 0)
        count = max(1, round(len(steps) * WINDOW_SHARE))
        return (int(steps[0]), int(steps[count - 1])), (int(steps[-count]), int(steps[-1]))

    def within(self, window: tuple[int, int]) -> NDArray[np.bool_]:
        """Which rollouts are of a window of steps."""
        return (self.step >= window[0]) & (self.step <= window[1])

    def groups_within(self, window: tuple[int, int]) -> NDArray[np.bool_]:
        return (self.group_step >= window[0]) & (self.group_step <= window[1])

    def by_group(self, rows: Ints, values: Floats | None = None) -> Floats:
        """The number of these rollouts in each group, or the sum of their values."""
        return added(self.group, self.groups, rows, values)

    def possible(self, behaviour: Behaviour) -> Ints:
        """The rollouts that could show it."""
        if not behaviour.given:
            return np.arange(len(self.step))
        given = next((rows for one, rows in self.members.items() if one.name == behaviour.given), None)
        return np.arange(len(self.step)) if given is None else given

    def lacking(self, behaviour: Behaviour) -> Ints:
        """The rollouts that could show it and do not."""
        return np.setdiff1d(self.possible(behaviour), self.members[behaviour], assume_unique=True)

    def _amounts(self, amounts: Mapping[str, Floats]) -> dict[Behaviour, Ints]:
        found: dict[Behaviour, Ints] = {}
        early = self.within(self.early)
        for column, words in AMOUNTS.items():
            values = amounts[column]
            if not len(values) or not values.any():
                continue
            middle = float(np.median(values[early]))
            found[Behaviour(words.format(f"{middle:.0f}"), "amount")] = np.flatnonzero(values > middle)
        return found


def added(place: Ints, places: int, rows: Ints, values: Floats | None = None) -> Floats:
    """The number of these rollouts at each of so many places, or the sum of their values."""
    weights = None if values is None else values[rows]
    return np.bincount(place[rows], weights=weights, minlength=places).astype(np.float64)


@dataclass(frozen=True)
class Contrast:
    """What showing a behaviour goes with, within groups, where rollouts of the same sample differ in it.

    Attributes:
        total: sum over groups of what those that show it have more than their share.
        z: how far that is from what chance gives, when within each group any rollouts as likely show it.
        groups: in which some show it and some do not.
    """

    total: float
    z: float
    groups: int


def contrast(evidence: Evidence, shown: Ints, possible: Ints, values: Floats, apart: Ints | None = None) -> Contrast:
    """The sum over groups, and its variance under permutations within them (Cochran 1954, Mantel and Haenszel 1959).

    Args:
        values: of each rollout.
        apart: rollouts that are compared among themselves alone, in each group, and the others likewise.
    """
    stratum, strata = evidence.group, evidence.groups
    if apart is not None:
        stratum, strata = 2 * stratum, 2 * strata
        stratum[apart] += 1
    summed = partial(added, stratum, strata)
    n, s = summed(possible), summed(shown)
    mixed = (s > 0) & (s < n)
    if not mixed.any():
        return Contrast(0.0, 0.0, 0)
    n, s = n[mixed], s[mixed]
    of_all, of_shown = summed(possible, values)[mixed], summed(shown, values)[mixed]
    squares = summed(possible, values**2)[mixed]
    total = float((of_shown - s / n * of_all).sum())
    variance = float((s * (n - s) / (n * (n - 1)) * (squares - of_all**2 / n)).sum())
    z = total / math.sqrt(variance) if variance > 1e-12 else 0.0
    return Contrast(total, z, int(mixed.sum()))


def z_between(before: Floats, after: Floats) -> float:
    """Of the difference of two means (Welch); 0 where either is of too few."""
    if min(len(before), len(after)) < LEAST_GROUPS:
        return 0.0
    variance = float(before.var(ddof=1)) / len(before) + float(after.var(ddof=1)) / len(after)
    difference = float(after.mean() - before.mean())
    if variance <= 1e-18:
        return 0.0 if abs(difference) <= 1e-12 else math.copysign(10.0, difference)
    return difference / math.sqrt(variance)


def z_of_trend(evidence: Evidence, rows: Ints) -> float:
    """Of the slope of these rollouts' rewards over the steps, by least squares over groups; 0 of too few."""
    counts, sums = evidence.by_group(rows), evidence.by_group(rows, evidence.reward)
    there = counts > 0
    if int(there.sum()) < LEAST_GROUPS:
        return 0.0
    weight, reward = counts[there], sums[there] / counts[there]
    step = evidence.group_step[there].astype(np.float64)
    step -= float(np.average(step, weights=weight))
    reward -= float(np.average(reward, weights=weight))
    spread = float((weight * step**2).sum())
    if spread <= 1e-12:
        return 0.0
    slope = float((weight * step * reward).sum()) / spread
    # Groups of few rollouts vary more, which this takes into account (White 1980, doi:10.2307/1912934).
    variance = float((weight**2 * step**2 * (reward - slope * step) ** 2).sum()) / spread**2
    return slope / math.sqrt(variance) if variance > 1e-18 else 0.0


def centred(evidence: Evidence, values: Floats) -> Floats:
    """Each value less its group's mean; 0 where there is none."""
    rows = np.flatnonzero(~np.isnan(values))
    counts, sums = evidence.by_group(rows), evidence.by_group(rows, np.nan_to_num(values))
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return np.nan_to_num(values - means[evidence.group])


def probability(z: float) -> float:
    """Two-sided, of a normal variable that is so far from 0."""
    return math.erfc(abs(z) / math.sqrt(2))


def not_by_chance(probabilities: Sequence[float], rate: float) -> list[bool]:
    """Which of many findings stand, when of those that stand a share of `rate` may be chance.

    Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    count = len(probabilities)
    if count == 0:
        return []
    order = sorted(range(count), key=lambda number: probabilities[number])
    last = max(
        (rank for rank, number in enumerate(order, 1) if probabilities[number] <= rate * rank / count),
        default=0,
    )
    standing = set(order[:last])
    return [number in standing for number in range(count)]
