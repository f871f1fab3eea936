"""How much of a job's rollouts measures where nobody says: a tenth, and a baseline that sees what can be learned."""

import pytest

from agentrft.spec.hyperparameters import Hyperparameters
from agentrft.spec.job import BaselineSpec

TOKENS = {"max_tokens_per_turn": 64, "max_context_tokens": 512}


@pytest.mark.parametrize("n_validation", [1, 5, 40, 120, 5000])
@pytest.mark.parametrize(("steps", "batch"), [(8, 6), (30, 8), (100, 8), (1000, 16)])
def test_validations_and_baseline_cost_a_tenth_of_the_training_rollouts(
    n_validation: int, steps: int, batch: int
) -> None:
    found = Hyperparameters(max_steps=steps, batch_size=batch, n_epochs=50).resolve(
        n_train=5000, n_validation=n_validation, **TOKENS
    )
    times = len([step for step in range(1, steps + 1) if step % found.eval_interval == 0 or step == steps])
    assert 1 <= times <= 4
    assert found.eval_rows <= n_validation
    validations = times * found.eval_rows * found.eval_samples
    baseline = BaselineSpec()
    samples = baseline.samples_of(found.eval_rows, found.eval_samples)
    assert samples <= found.eval_rows
    training = steps * batch * 8
    # A baseline of 16 samples, 4 rollouts each, is had also where that is more.
    assert validations + baseline.rollouts_per_sample * samples <= max(0.1 * training + 16, 8 + 64 + 64)


def test_more_is_measured_where_there_is_more_to_spend() -> None:
    small, large = (
        Hyperparameters(max_steps=steps, n_epochs=50).resolve(n_train=5000, n_validation=120, **TOKENS)
        for steps in (30, 300)
    )
    assert (small.eval_rows, small.eval_samples, small.eval_interval) == (64, 1, 15)
    assert (large.eval_rows, large.eval_samples, large.eval_interval) == (120, 3, 75)


@pytest.mark.parametrize("given", [{"eval_interval": 5}, {"eval_samples": 2}, {"eval_rows": 30}])
def test_who_says_how_much_gets_it(given: dict[str, int]) -> None:
    found = Hyperparameters(max_steps=30, **given).resolve(n_train=240, n_validation=120, **TOKENS)
    assert found.eval_interval == given.get("eval_interval", 7)
    assert found.eval_samples == given.get("eval_samples", 1)
    assert found.eval_rows == given.get("eval_rows", 120)


def test_a_baseline_sees_several_rollouts_of_each_sample() -> None:
    assert BaselineSpec().rollouts_per_sample == 4
    assert BaselineSpec().samples_of(120, 2) == 60
    assert BaselineSpec().samples_of(40, 1) == 16
    assert BaselineSpec().samples_of(5, 1) == 5
    assert BaselineSpec(samples=10).samples_of(120, 2) == 10
    assert BaselineSpec(samples=500).samples_of(120, 2) == 120
