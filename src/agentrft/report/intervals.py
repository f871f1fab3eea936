"""Confidence intervals of means over few samples, and of what two models have in common samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentrft.report.averages import mean

CONFIDENCE = 0.95
# Of fewer samples the bootstrap's percentiles are too narrow: of eight they hold 82 % where they promise 95 %.
FEW = 30


@dataclass(frozen=True)
class Interval:
    """Of a mean. Infinite bounds: nothing is known of it."""

    mean: float
    low: float
    high: float

    @property
    def leaves_out_0(self) -> bool:
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of independent values (1908, doi:10.2307/2331554)."""
    count, centre = len(values), mean(values)
    if count < 2:
        return Interval(centre, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (count - 1))
    half = student_quantile(1 - (1 - confidence) / 2, count - 1) * deviation / math.sqrt(count)
    return Interval(centre, centre - half, centre + half)


def paired_interval(a: Mapping[str, float], b: Mapping[str, float], confidence: float = CONFIDENCE) -> Interval:
    """Of the mean of `b - a` over the samples that both have: what makes a sample hard counts for both alike."""
    return mean_interval([b[sample] - a[sample] for sample in sorted(a.keys() & b.keys())], confidence)


def student_quantile(probability: float, degrees: int) -> float:
    """Of Student's t distribution, for a probability above 1/2; to 1e-9."""
    low, high = 0.0, 1.0
    while student_probability(high, degrees) < probability:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_probability(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def student_probability(t: float, degrees: int) -> float:
    """P(T <= t) for t >= 0, by the finite sums of Abramowitz & Stegun 1964, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, term, total = math.cos(angle), 1.0, 0.0
    first = 1 if degrees % 2 else 0
    # Powers of the cosine from the first to degrees - 2, each by its ratio to the one before.
    for power in range(first, degrees - 1, 2):
        if power == first:
            term = cosine if first else 1.0
        else:
            term *= cosine * cosine * (power - 1) / power
        total += term
    if degrees % 2:
        between = 2 / math.pi * (angle + math.sin(angle) * total)
    else:
        between = math.sin(angle) * total
    return 0.5 + between / 2
