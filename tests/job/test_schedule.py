"""Which samples a step trains on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft.job.schedule import samples_of_step


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
