"""Comparing two models by their rollouts of the same samples."""

import pytest

from agentrft.report.compare import Measure, compare
from agentrft.rollout.record import Rollout, Turn


def rollout(sample: int, reward: float | None, *, index: int = 0, latency_s: float = 1.0, tokens: int = 4) -> Rollout:
    turn = Turn([1], [2] * tokens, [0.0] * tokens, "stop", 0)
    outcome = "infra_failed" if reward is None else "graded"
    return Rollout(
        f"trace_{sample}_{index}",
        1,
        f"s{sample:02d}",
        0,
        index,
        outcome,
        [turn],
        [],
        reward=reward,
        latency_s=latency_s,
    )


def measure(a: list[Rollout], b: list[Rollout], name: str, **options: float) -> Measure:
    return next(one for one in compare(a, b, **options).measures if one.name == name)  # type: ignore[arg-type]


def test_a_model_beside_itself_shows_no_difference() -> None:
    rollouts = [rollout(sample, sample / 20, latency_s=sample) for sample in range(20)]
    comparison = compare(rollouts, rollouts)
    assert comparison.samples == 20
    assert all((one.difference, one.low, one.high) == (0, 0, 0) and not one.is_certain for one in comparison.measures)
    assert comparison.rose == comparison.fell == []


def test_the_same_gain_on_every_sample_is_certain_however_much_samples_differ() -> None:
    a = [rollout(sample, sample / 100) for sample in range(30)]
    b = [rollout(sample, sample / 100 + 0.05) for sample in range(30)]
    reward = measure(a, b, "reward")
    assert (reward.difference, reward.low, reward.high) == pytest.approx((0.05, 0.05, 0.05))
    assert reward.is_certain


def test_the_interval_is_that_of_the_mean_of_paired_differences() -> None:
    # Differences of +1 and -1, half each: the mean of n = 100 has a standard error of 0.1.
    a = [rollout(sample, float(sample % 2)) for sample in range(100)]
    b = [rollout(sample, float(1 - sample % 2)) for sample in range(100)]
    reward = measure(a, b, "reward")
    assert reward.difference == pytest.approx(0)
    assert reward.low == pytest.approx(-0.196, abs=0.02)
    assert reward.high == pytest.approx(0.196, abs=0.02)


def test_the_same_seed_gives_the_same_interval() -> None:
    a = [rollout(sample, (sample * 7 % 10) / 10) for sample in range(40)]
    b = [rollout(sample, (sample * 3 % 10) / 10) for sample in range(40)]
    assert compare(a, b, seed=3) == compare(a, b, seed=3)
    assert measure(a, b, "reward", seed=3) != measure(a, b, "reward", seed=4)


def test_samples_without_a_reward_from_both_are_left_out_and_counted() -> None:
    a = [rollout(0, 1.0), rollout(1, None), rollout(2, 0.0)]
    b = [rollout(0, 1.0), rollout(1, 1.0), rollout(2, 0.5), rollout(3, 1.0)]
    comparison = compare(a, b)
    assert (comparison.samples, comparison.left_out) == (2, 2)
    assert compare([rollout(0, None)], [rollout(0, None)]).measures == []


def test_a_sample_with_fewer_rollouts_left_counts_as_much_as_the_others() -> None:
    a = [rollout(0, 1.0), rollout(0, None, index=1), rollout(1, 0.0), rollout(1, 0.0, index=1)]
    assert measure(a, a, "reward").a == 0.5


def test_latency_is_compared_by_nearest_rank_and_against_a_threshold() -> None:
    a = [rollout(sample, 1.0, latency_s=sample + 1) for sample in range(10)]
    b = [rollout(sample, 1.0, latency_s=(sample + 1) / 2) for sample in range(10)]
    assert (measure(a, b, "latency p50, s").a, measure(a, b, "latency p95, s").a) == (5, 10)
    assert measure(a, b, "latency p50, s").b == 2.5
    slow = measure(a, b, "share over 5 s", latency_threshold_s=5.0)
    assert (slow.a, slow.b, slow.is_share) == (0.5, 0.0, True)


def test_samples_that_changed_most_are_named_in_both_directions() -> None:
    a = [rollout(sample, 0.5) for sample in range(10)]
    b = [rollout(sample, 0.5 + (sample - 4) / 10) for sample in range(10)]
    comparison = compare(a, b)
    assert [change.sample_id for change in comparison.rose] == ["s09", "s08", "s07", "s06", "s05"]
    assert [change.sample_id for change in comparison.fell] == ["s00", "s01", "s02", "s03"]
    assert (comparison.rose[0].a, comparison.rose[0].b) == pytest.approx((0.5, 1.0))


def test_holdout_graders_are_compared_on_the_samples_that_both_models_have_their_score_of() -> None:
    a = [rollout(sample, 0.5) for sample in range(10)]
    b = [rollout(sample, 0.9) for sample in range(10)]
    for sample in range(8):
        a[sample].holdout_scores = {"honest": 0.8}
    for sample in range(2, 10):
        b[sample].holdout_scores = {"honest": 0.6}
    honest = measure(a, b, "holdout honest")
    assert (honest.a, honest.b, honest.low, honest.high) == pytest.approx((0.8, 0.6, -0.2, -0.2))
    assert all(one.name != "holdout honest" for one in compare(a[:2], b[:2]).measures)
