"""How many rollouts a validation needs: simulated, with samples of known difficulty."""

import random
from statistics import pstdev, stdev

import pytest

from agentrft.report.noise import TOLD_APART, noise_share, samples_needed


def attempts(chances: list[float], k: int, seed: int) -> dict[str, list[float]]:
    source = random.Random(seed)
    return {str(index): [float(source.random() < p) for _ in range(k)] for index, p in enumerate(chances)}


def test_samples_that_are_always_right_or_always_wrong_need_one() -> None:
    rewards = attempts([0.0, 1.0] * 10, 4, 0)
    assert noise_share(rewards) == 0 and samples_needed(rewards, rows=4) == 1
    assert noise_share({"0": [0.5, 0.5], "1": [0.5, 0.5]}) == 0


def test_samples_that_are_all_alike_are_noise_alone() -> None:
    shares = [noise_share(attempts([0.5] * 40, 4, seed)) for seed in range(50)]
    assert sum(shares) / 50 == pytest.approx(1, abs=0.05)
    assert samples_needed(attempts([0.5] * 40, 4, 0), rows=20) >= 8
    assert samples_needed(attempts([0.5] * 40, 4, 0), rows=1000) == 1


def test_one_attempt_each_says_nothing_and_counts_as_noise() -> None:
    assert noise_share(attempts([0.0, 1.0], 1, 0)) == 1


@pytest.mark.parametrize("chances", [[0.5] * 30, [0.1, 0.9] * 15, [0.0, 1.0, 0.5] * 10])
def test_two_validations_of_the_same_samples_differ_by_no_more_than_wanted(chances: list[float]) -> None:
    k = samples_needed(attempts(chances, 200, 1), rows=len(chances))
    spread = pstdev(one for some in attempts(chances, 200, 2).values() for one in some)

    def measured(seed: int) -> float:
        rewards = attempts(chances, k, seed)
        return sum(sum(some) for some in rewards.values()) / (k * len(chances))

    differences = [measured(seed) - measured(10_000 + seed) for seed in range(400)]
    assert stdev(differences) <= 1.15 * TOLD_APART * spread
