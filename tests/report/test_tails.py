"""Tails are scipy's, to many digits and far out."""

import pytest
from scipy import stats

from agentrft.report.tails import normal_tail, skewed_tail, student_tail, z_of_tail


@pytest.mark.parametrize("degrees", [1, 2.5, 4, 5.7, 10, 33.3, 200, 5000])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 6.0, 20.0])
def test_student(t: float, degrees: float) -> None:
    assert student_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-8)


@pytest.mark.parametrize("skewness", [-2.0, -0.5, -0.05, 0.0, 0.03, 0.4, 1.3, 3.0])
@pytest.mark.parametrize("z", [-3.0, -0.5, 0.0, 1.0, 3.0, 7.0])
def test_skewed(z: float, skewness: float) -> None:
    assert skewed_tail(z, skewness) == pytest.approx(stats.pearson3.sf(z, skewness), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("z", [0.0, 1.0, 4.0, 12.0])
def test_a_z_is_found_again_by_its_tail(z: float) -> None:
    assert z_of_tail(normal_tail(z)) == pytest.approx(z, abs=1e-8)


def test_what_is_sure_has_the_lowest_z_and_what_is_impossible_a_finite_one() -> None:
    assert z_of_tail(1.0) == float("-inf") and 30 < z_of_tail(0.0) < 40
