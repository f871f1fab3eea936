"""Intervals hold what they promise, also of few samples and of rewards that are right or wrong."""

import math
import random
from collections.abc import Callable

import pytest

from agentrft.report.compare import compare
from agentrft.report.intervals import mean_interval, paired_interval, student_quantile
from tests.report.test_compare import rollout

TRIALS = 2000


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (7, 2.3646), (8, 2.3060), (29, 2.0452), (120, 1.9799)],
)
def test_quantiles_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(expected, abs=1e-4)


def right_or_wrong(source: random.Random) -> float:
    """The difference of two rollouts that are right in 30 % and 50 %."""
    return float(source.random() < 0.5) - float(source.random() < 0.3)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(lambda source: source.gauss(0.2, 1.0), 0.2), (lambda source: source.random(), 0.5), (right_or_wrong, 0.2)],
    ids=["gauss", "uniform", "right or wrong"],
)
@pytest.mark.parametrize("samples", [8, 20, 60])
def test_nineteen_of_twenty_intervals_hold_the_mean(
    draw: Callable[[random.Random], float], expected: float, samples: int
) -> None:
    source, held = random.Random(0), 0
    for _ in range(TRIALS):
        found = mean_interval([draw(source) for _ in range(samples)])
        held += found.low <= expected <= found.high
    assert 0.93 < held / TRIALS < 0.975


def test_a_comparison_of_eight_samples_has_such_an_interval() -> None:
    source, held = random.Random(1), 0
    for _ in range(300):
        a = [rollout(sample, source.random()) for sample in range(8)]
        b = [rollout(sample, source.random() + 0.1) for sample in range(8)]
        reward = next(one for one in compare(a, b, resamples=10).measures if one.name == "reward")
        held += reward.low <= 0.1 <= reward.high
    assert held / 300 > 0.92


def test_of_a_single_sample_nothing_is_known() -> None:
    alone = mean_interval([0.5])
    assert (alone.low, alone.high) == (-math.inf, math.inf)
    assert not alone.leaves_out_0
    assert not mean_interval([]).leaves_out_0


def test_pairs_are_of_the_samples_that_both_have() -> None:
    found = paired_interval({"a": 0.0, "b": 0.5, "c": 1.0}, {"b": 0.6, "c": 1.1, "d": 9.0})
    assert found.mean == pytest.approx(0.1)
    assert found.leaves_out_0
