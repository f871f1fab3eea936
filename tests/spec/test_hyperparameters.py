"""What "auto" becomes."""

from agentrft.spec import Hyperparameters

TOKENS = {"max_tokens_per_turn": 512, "max_context_tokens": 4096}


def test_more_steps_than_an_epoch_has_mean_more_epochs_unless_the_user_set_them() -> None:
    resolved = Hyperparameters(max_steps=40, batch_size=8).resolve(n_train=200, **TOKENS)
    assert (resolved.max_steps, resolved.n_epochs) == (40, 2)
    bounded = Hyperparameters(max_steps=40, batch_size=8, n_epochs=1).resolve(n_train=200, **TOKENS)
    assert (bounded.max_steps, bounded.n_epochs) == (25, 1)


def test_rollouts_per_sample_follow_the_compute_multiplier_and_are_never_fewer_than_two() -> None:
    for multiplier, rollouts in ((1, 8), (0.5, 4), (0.01, 2), (10, 80)):
        resolved = Hyperparameters(compute_multiplier=multiplier).resolve(n_train=10, **TOKENS)
        assert resolved.rollouts_per_sample == rollouts


def test_everything_left_at_auto_becomes_a_value() -> None:
    resolved = Hyperparameters().resolve(n_train=24, **TOKENS).as_dict()
    assert "auto" not in resolved.values()
    assert (resolved["max_tokens_per_turn"], resolved["max_context_tokens"]) == (512, 4096)
