"""What chance would make of a behaviour: contrasts within groups, and changes over steps, each with how rare it is.

All are told as a z, that of a normal variable which is so far out as rarely, whatever they are distributed as.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from agentrft.report.tails import normal_tail, skewed_tail, student_tail, z_of_tail
from agentrft.report.why.evidence import Evidence, Floats, Ints, added

# Of fewer groups nothing is said.
LEAST_GROUPS = 6


@dataclass(frozen=True)
class Contrast:
    """What showing a behaviour goes with, within groups, where rollouts of the same sample differ in it.

    Attributes:
        total: sum over groups of what those that show it have more than their share.
        z: how far that is from what chance gives, when within each group any rollouts as likely show it: the z of a
            normal variable that is so far out as rarely.
        groups: in which some show it and some do not.
    """

    total: float
    z: float
    groups: int


def contrast(evidence: Evidence, shown: Ints, possible: Ints, values: Floats, apart: Ints | None = None) -> Contrast:
    """The sum over groups, and how rare it is under permutations within them (Cochran 1954, Mantel and Haenszel 1959).

    The variance and the skewness of the permutations are exact, and the tail is that of a distribution which has both:
    where a behaviour is rare in few groups, the normal one takes for a miracle what is one draw in a hundred.

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
    of_all, of_shown = summed(possible, values), summed(shown, values)
    total = float((of_shown - np.divide(s * of_all, n, out=np.zeros_like(s), where=mixed))[mixed].sum())
    # Moments about each group's mean: values far from zero would lose their digits.
    means = np.divide(of_all, n, out=np.zeros_like(n), where=n > 0)
    apart_from_mean = values - means[stratum]
    squares, cubes = (summed(possible, apart_from_mean**power)[mixed] for power in (2, 3))
    n, s = n[mixed], s[mixed]
    variance = float((s * (n - s) / (n * (n - 1)) * squares).sum())
    if variance <= 1e-12:
        return Contrast(total, 0.0, int(mixed.sum()))
    # In a group of two nothing is skewed.
    third = float((s * (n - s) * (n - 2 * s) / (n * (n - 1) * np.maximum(n - 2, 1)) * cubes).sum())
    z = rare_as(total / math.sqrt(variance), third / variance**1.5, float(_log_ways(n, s).sum()))
    return Contrast(total, z, int(mixed.sum()))


def rare_as(z: float, skewness: float, log_ways: float) -> float:
    """The z of a normal variable as rare as this one, which is skewed.

    Args:
        log_ways: logarithm of how many outcomes there are, of which none is rarer than any other.
    """
    # What is far out to the left is so to the right of the mirror image.
    tail = max(skewed_tail(abs(z), math.copysign(1.0, z) * skewness), math.exp(-log_ways))
    return math.copysign(max(0.0, z_of_tail(tail)), z)


def _log_ways(n: Floats, s: Floats) -> Floats:
    """Of each group, the logarithm of the ways to choose s of n."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int(n.max()) + 1)))])
    whole, part = n.astype(np.int64), s.astype(np.int64)
    return factorials[whole] - factorials[part] - factorials[whole - part]


def z_between(before: Floats, after: Floats) -> float:
    """Of the difference of two means: the z of a normal variable as rare as Welch's t is by its degrees of freedom; 0
    where either is of too few.

    Welch 1947, doi:10.1093/biomet/34.1-2.28.
    """
    if min(len(before), len(after)) < LEAST_GROUPS:
        return 0.0
    parts = [float(one.var(ddof=1)) / len(one) for one in (before, after)]
    variance = sum(parts)
    difference = float(after.mean() - before.mean())
    if variance <= 1e-18:
        return 0.0 if abs(difference) <= 1e-12 else math.copysign(10.0, difference)
    degrees = variance**2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (before, after), strict=True))
    return _z_of_t(difference / math.sqrt(variance), degrees)


def z_of_mean(values: Floats) -> float:
    """Of a mean that may be 0: the z of a normal variable as rare as Student's t; 0 of too few."""
    if len(values) < LEAST_GROUPS:
        return 0.0
    mean, variance = float(values.mean()), float(values.var(ddof=1)) / len(values)
    if variance <= 1e-18:
        return 0.0 if abs(mean) <= 1e-12 else math.copysign(10.0, mean)
    return _z_of_t(mean / math.sqrt(variance), len(values) - 1)


def _z_of_t(t: float, degrees: float) -> float:
    return math.copysign(max(0.0, z_of_tail(student_tail(abs(t), degrees))), t)


def z_of_trend(evidence: Evidence, rows: Ints) -> float:
    """Of the slope of these rollouts' rewards over the steps, by least squares over groups, as `z_between` tells it; 0
    of too few."""
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
    # Groups of few rollouts vary more, which this takes into account (White 1980, doi:10.2307/1912934), and two of the
    # differences from the line are spent on it.
    count = len(reward)
    variance = float((weight**2 * step**2 * (reward - slope * step) ** 2).sum()) / spread**2 * count / (count - 2)
    return _z_of_t(slope / math.sqrt(variance), count - 2) if variance > 1e-18 else 0.0


def centred(evidence: Evidence, values: Floats) -> Floats:
    """Each value less its group's mean; 0 where there is none."""
    rows = np.flatnonzero(~np.isnan(values))
    counts, sums = evidence.by_group(rows), evidence.by_group(rows, np.nan_to_num(values))
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return np.nan_to_num(values - means[evidence.group])


def probability(z: float) -> float:
    """Two-sided, of a normal variable that is so far from 0."""
    return 2 * normal_tail(abs(z))


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
