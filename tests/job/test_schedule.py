"""Which samples a step trains on."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft.data import Sample
from agentrft.job.schedule import DIFFICULTY_FLOOR, Difficulty, epoch_of, samples_of_step


@given(
    n_samples=st.integers(1, 40), batch_size=st.integers(1, 12), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 5)
)
def test_each_epoch_has_every_sample_exactly_once(n_samples: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = -(-n_samples // batch_size)
    steps = range(epoch * batches + 1, (epoch + 1) * batches + 1)
    seen = [
        sample
        for step in steps
        for sample in samples_of_step(range(n_samples), batch_size=batch_size, seed=seed, step=step)
    ]
    assert sorted(seen) == list(range(n_samples))
    assert {epoch_of(step, samples=n_samples, batch_size=batch_size) for step in steps} == {epoch + 1}


@given(n_samples=st.integers(1, 40), batch_size=st.integers(1, 12), seed=st.integers(0, 2**31 - 1))
def test_no_step_is_empty_and_none_is_larger_than_the_batch(n_samples: int, batch_size: int, seed: int) -> None:
    for step in range(1, 30):
        assert 1 <= len(samples_of_step(range(n_samples), batch_size=batch_size, seed=seed, step=step)) <= batch_size


def test_a_step_is_the_same_whatever_steps_were_asked_for_before() -> None:
    samples = list(range(11))
    in_order = [samples_of_step(samples, batch_size=4, seed=3, step=step) for step in range(1, 10)]
    backwards = [samples_of_step(samples, batch_size=4, seed=3, step=step) for step in range(9, 0, -1)]
    assert in_order == backwards[::-1]


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 4}])
def test_another_seed_and_another_epoch_have_another_order(change: dict[str, int]) -> None:
    place = {"seed": 0, "step": 1}
    first = samples_of_step(range(30), batch_size=10, **place)
    assert samples_of_step(range(30), batch_size=10, **(place | change)) != first


def numbered(count: int) -> list[Sample]:
    return [Sample(sample_id=str(number), messages=[], tools=[], item={}) for number in range(count)]


def draws(difficulty: Difficulty, samples: list[Sample], steps: int) -> Counter[str]:
    return Counter(
        sample.sample_id
        for step in range(steps)
        for sample in difficulty.samples_of_step(samples, batch_size=2, seed=5, step=step)
    )


def test_samples_that_taught_nothing_lately_are_drawn_less_but_never_left_out() -> None:
    samples, difficulty = numbered(8), Difficulty()
    for _ in range(20):
        difficulty.record("0", [1.0, 1.0, 1.0])
        difficulty.record("1", [0.0, 0.0])
        difficulty.record("2", [0.0, 1.0])
    assert difficulty.weight("0") == difficulty.weight("1") == DIFFICULTY_FLOOR
    assert difficulty.weight("2") == difficulty.weight("7") == 1.0
    drawn = draws(difficulty, samples, steps=2000)
    assert 0.05 < drawn["0"] / drawn["2"] < 0.2
    assert abs(drawn["7"] / drawn["2"] - 1) < 0.15


def test_a_sample_whose_rewards_differ_again_counts_fully_again() -> None:
    difficulty = Difficulty()
    difficulty.record("0", [1.0, 1.0])
    difficulty.record("0", [1.0, 1.0])
    assert difficulty.weight("0") == 0.25
    difficulty.record("0", [1.0, 0.0])
    assert difficulty.weight("0") == 1.0


def test_a_single_reward_says_nothing_about_difficulty() -> None:
    difficulty = Difficulty()
    difficulty.record("0", [1.0])
    difficulty.record("0", [])
    assert difficulty.weight("0") == 1.0


def test_a_draw_by_difficulty_has_no_sample_twice_and_depends_on_step_and_seed_alone() -> None:
    samples, difficulty = numbered(9), Difficulty()
    drawn = [difficulty.samples_of_step(samples, batch_size=4, seed=1, step=step) for step in range(5)]
    assert all(len({sample.sample_id for sample in batch}) == 4 for batch in drawn)
    assert drawn[3] == Difficulty().samples_of_step(samples, batch_size=4, seed=1, step=3)
    assert len({tuple(sample.sample_id for sample in batch) for batch in drawn}) > 1
