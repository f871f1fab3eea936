"""Counts of a step, and how its rollouts come to their ends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft.planning.workload import Judging, Workload


def of_lengths(mean: float, most: int, rollouts: int) -> Workload:
    return Workload(
        groups=rollouts,
        rollouts_per_group=1,
        prompt_tokens=10,
        turns=1,
        turn_tokens=mean,
        result_tokens=0,
        most_sampled=most,
        context_tokens=most + 10,
    )


@given(share=st.floats(0.001, 0.999), most=st.integers(10, 100_000), rollouts=st.integers(1, 100_000))
def test_what_survives_holds_the_tokens_that_there_are(share: float, most: int, rollouts: int) -> None:
    slices = of_lengths(share * most, most, rollouts).survivors()
    shares = [left for _, left in slices]
    assert sum(count * left for count, left in slices) == pytest.approx(share * most, rel=0.1)
    assert shares == sorted(shares, reverse=True) and all(0 <= left <= 1 for left in shares)
    assert sum(count for count, _ in slices) <= most * 1.0001


def test_rollouts_that_all_use_what_they_may_end_together() -> None:
    assert of_lengths(500, 500, 8).survivors() == [(500.0, 1.0)]
    assert of_lengths(700, 500, 8).survivors() == [(500.0, 1.0)]
    assert of_lengths(0, 500, 8).survivors() == []


def test_the_longest_of_many_is_longer_than_the_longest_of_few() -> None:
    def longest(rollouts: int) -> float:
        return sum(count for count, _ in of_lengths(100, 100_000, rollouts).survivors())

    # The mean x (ln n + 0.577) of an exponential distribution.
    assert longest(1000) == pytest.approx(100 * (6.908 + 0.577), rel=0.01)
    assert longest(10) < longest(100) < longest(1000)


def test_counts_follow(step: Workload) -> None:
    judged = replace(step, judges=(Judging("a", 1, 1), Judging("b", 1, 1)))
    assert (judged.rollouts, judged.sampled_tokens, judged.tool_calls, judged.judge_calls) == (32, 9600, 64, 64)
    # Four prompts of 1000, and 32 x 2 answers of 50.
    assert judged.prefill_tokens == 4000 + 3200
    assert judged.wait_per_rollout == 4.0


def test_one_turn_calls_no_tools(step: Workload) -> None:
    single = replace(step, turns=1)
    assert single.tool_calls == single.wait_per_rollout == single.results_per_rollout == 0
