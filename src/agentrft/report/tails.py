"""How likely chance makes a number that is so far out: tails of distributions, also of few and of skewed values.

Written out, since scipy would be a large dependency for three functions. Each is held to scipy's in the tests.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

NORMAL = NormalDist()
# Less likely than that is the same to whoever reads it, and float64 ends soon.
LEAST = 1e-300
TINY, PRECISION, MOST_TERMS = 1e-300, 1e-15, 100_000
# A skewness of less moves no tail that is looked at.
STRAIGHT = 0.02


def normal_tail(z: float) -> float:
    """P(Z >= z) of a normal variable."""
    return math.erfc(z / math.sqrt(2)) / 2


def z_of_tail(probability: float) -> float:
    """The z that a normal variable exceeds so rarely."""
    return -NORMAL.inv_cdf(max(LEAST, probability)) if probability < 1 else -math.inf


def student_tail(t: float, degrees: float) -> float:
    """P(T >= t) of Student's distribution for t >= 0; degrees of freedom need not be whole (Welch 1947)."""
    return _beta_share(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2


def skewed_tail(z: float, skewness: float) -> float:
    """P(Z >= z) of a variable of mean 0 and variance 1 by its skewness: Pearson's type III.

    Of sums over permutations: Mielke & Berry 2007, "Permutation Methods", doi:10.1007/978-0-387-69813-7.
    """
    if abs(skewness) < STRAIGHT:
        return normal_tail(z)
    shape = 4 / skewness**2
    above = shape + math.copysign(z, skewness * z) * math.sqrt(shape)
    tail = _gamma_tail(shape, above) if above > 0 else 1.0
    return tail if skewness > 0 else 1.0 - tail


def _gamma_tail(shape: float, x: float) -> float:
    """Regularised incomplete gamma function Q (Press et al. 2007, "Numerical Recipes", 6.2)."""
    scale = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        for number in range(1, MOST_TERMS):
            term *= x / (shape + number)
            total += term
            if term < total * PRECISION:
                break
        return max(0.0, 1.0 - total * scale)

    def parts() -> Iterator[tuple[float, float]]:
        yield 1.0, x + 1 - shape
        for number in range(1, MOST_TERMS):
            yield -number * (number - shape), x + 1 - shape + 2 * number

    return scale * _continued_fraction(parts())


def _beta_share(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I (the same, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_share(b, a, 1 - x)
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))

    def parts() -> Iterator[tuple[float, float]]:
        yield 1.0, 1.0
        for number in range(1, MOST_TERMS):
            half = number // 2
            if number % 2:
                yield -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1)), 1.0
            else:
                yield half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half)), 1.0

    return scale / a * _continued_fraction(parts())


def _continued_fraction(parts: Iterator[tuple[float, float]]) -> float:
    """a1 / (b1 + a2 / (b2 + ...)), of pairs of a and b, by Lentz's method (the same, 5.2)."""
    value = top = TINY
    below = 0.0
    for a, b in parts:
        below = 1 / _not_0(b + a * below)
        top = _not_0(b + a / top)
        value *= top * below
        if abs(top * below - 1) < PRECISION:
            break
    return value


def _not_0(value: float) -> float:
    return value if abs(value) > TINY else TINY
