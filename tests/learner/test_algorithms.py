"""Advantages and losses against numbers worked out by hand."""

import math

import pytest
import torch

from agentrft.learner.algorithms import ALGORITHMS, LossInputs, LossOutput


def run(
    name: str,
    *,
    ratios: list[float],
    advantages: list[float],
    rollout: list[int] | None = None,
    step_tokens: int | None = None,
    step_rollouts: int = 1,
) -> tuple[LossOutput, list[float]]:
    """The loss of tokens with these importance ratios, and its gradient by their log-probabilities."""
    sampling = torch.linspace(-1.0, -2.0, len(ratios))
    logprobs = (sampling + torch.tensor(ratios).log()).requires_grad_(True)
    owner = torch.tensor(rollout or [0] * len(ratios))
    inputs = LossInputs(logprobs, sampling, torch.tensor(advantages), owner, step_tokens or len(ratios), step_rollouts)
    output = ALGORITHMS[name].loss(inputs)
    output.loss.backward()
    assert logprobs.grad is not None
    return output, logprobs.grad.tolist()


def test_grpo_advantages_are_rewards_normalised_within_the_group() -> None:
    advantages = ALGORITHMS["grpo"].advantages(torch.tensor([1.0, 2.0, 3.0]))
    assert advantages.tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-3)
    advantages = ALGORITHMS["grpo"].advantages(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert advantages.tolist() == pytest.approx([-0.5, -0.5, -0.5, 1.5], abs=1e-3)


def test_grpo_on_policy_is_the_mean_advantage_with_the_policy_gradient() -> None:
    output, gradient = run("grpo", ratios=[1.0, 1.0, 1.0], advantages=[0.5, -1.0, 2.0])
    assert float(output.loss.detach()) == pytest.approx(-1.5 / 3)
    assert gradient == pytest.approx([-0.5 / 3, 1.0 / 3, -2.0 / 3])
    assert output.truncated_tokens == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "slope"),
    [
        pytest.param(1.1, 2.0, 2.2, 2.2, id="inside, better"),
        pytest.param(1.5, 2.0, 2.4, 0.0, id="above, better: clipped at 1.2"),
        pytest.param(0.5, 2.0, 1.0, 1.0, id="below, better: pulled back up"),
        pytest.param(0.9, -2.0, -1.8, -1.8, id="inside, worse"),
        pytest.param(0.5, -2.0, -1.6, 0.0, id="below, worse: clipped at 0.8"),
        pytest.param(1.5, -2.0, -3.0, -3.0, id="above, worse: pushed back down"),
        pytest.param(9.0, -2.0, -6.0, 0.0, id="far above, worse: bounded at 3"),
    ],
)
def test_grpo_clips_the_ratio_only_where_it_would_go_further(
    ratio: float, advantage: float, surrogate: float, slope: float
) -> None:
    output, gradient = run("grpo", ratios=[ratio], advantages=[advantage], step_tokens=10)
    assert float(output.loss.detach()) == pytest.approx(-surrogate / 10, rel=1e-5)
    assert gradient == pytest.approx([-slope / 10], rel=1e-5, abs=1e-9)
    assert output.truncated_tokens == (1 if slope == 0.0 else 0)


def test_rloo_advantages_leave_the_rollout_itself_out_of_its_baseline() -> None:
    advantages = ALGORITHMS["rloo"].advantages(torch.tensor([1.0, 0.0, 0.5, 0.0]))
    assert advantages.tolist() == pytest.approx([1 - 0.5 / 3, -0.5, 0.5 - 1 / 3, -0.5])


def test_rloo_sums_over_a_rollouts_tokens_and_averages_over_rollouts() -> None:
    output, gradient = run(
        "rloo", ratios=[1.0, 1.0, 1.0], advantages=[0.5, 0.5, -1.0], rollout=[0, 0, 1], step_rollouts=2
    )
    assert gradient == pytest.approx([-0.25, -0.25, 0.5])
    assert float(output.loss.detach()) == pytest.approx(-(0.5 * -1.0 + 0.5 * -1.5 + -1.0 * -2.0) / 2)


def test_rloo_weighs_by_the_ratio_up_to_its_bound() -> None:
    output, gradient = run("rloo", ratios=[0.5, 1.5, 5.0], advantages=[1.0, 1.0, -1.0])
    assert gradient == pytest.approx([-0.5, -1.5, 2.0], rel=1e-5)
    assert output.truncated_tokens == 1


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_groups_shares_add_up_to_the_loss_of_the_step(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    count, first = 30, 11
    sampling = -torch.rand(count, generator=generator)
    logprobs = sampling + torch.randn(count, generator=generator)
    advantages, rollout = torch.randn(count, generator=generator), torch.arange(count) // 5

    def loss_of(part: slice) -> float:
        inputs = LossInputs(logprobs[part], sampling[part], advantages[part], rollout[part], count, 6)
        return float(ALGORITHMS[name].loss(inputs).loss.detach())

    whole = loss_of(slice(None))
    assert math.isfinite(whole)
    assert loss_of(slice(None, first)) + loss_of(slice(first, None)) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_a_ratio_beyond_any_float_leaves_the_gradient_finite(name: str) -> None:
    _, gradient = run(name, ratios=[1.0, 1.0], advantages=[1.0, -1.0])
    sampling = torch.tensor([-200.0, -200.0])
    logprobs = torch.tensor([-0.1, -0.1], requires_grad=True)
    inputs = LossInputs(logprobs, sampling, torch.tensor([1.0, -1.0]), torch.tensor([0, 1]), 2, 2)
    ALGORITHMS[name].loss(inputs).loss.backward()
    assert logprobs.grad is not None
    assert torch.isfinite(logprobs.grad).all()
