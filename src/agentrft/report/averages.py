"""Means and quantiles, which are 0 of nothing."""

import math
from collections.abc import Iterable, Sequence


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest-rank quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def level(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, from 0 to 1; 0 where these are the same."""
    return (value - low) / ((high - low) or 1.0)
