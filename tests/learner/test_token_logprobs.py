"""Log-probabilities computed a few rows at a time are those of an ordinary log-softmax, and so is their gradient."""

import pytest
import torch

from agentrft.learner.token_logprobs import ROWS_AT_A_TIME, token_logprobs


def inputs(rows: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits over 50 tokens; some positions predict several tokens, some the same one twice, some none."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(rows, 50, generator=generator) * 3).to(dtype).requires_grad_(True)
    position = torch.randint(rows, (3 * rows,), generator=generator)
    token = torch.randint(4, (3 * rows,), generator=generator)
    return logits, position, token


@pytest.mark.parametrize("rows", [1, ROWS_AT_A_TIME, 2 * ROWS_AT_A_TIME + 5])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_agree_with_a_log_softmax(rows: int, temperature: float) -> None:
    logits, position, token = inputs(rows)
    logprobs, entropy, highest = token_logprobs(logits, position, token, temperature)
    reference = logits.detach().clone().requires_grad_(True)
    distribution = (reference / temperature).log_softmax(dim=-1)
    expected = distribution[position, token]
    weights = torch.randn(len(token), generator=torch.Generator().manual_seed(1))
    (logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(logprobs, expected, atol=1e-5)
    assert torch.allclose(entropy, -(distribution.exp() * distribution).sum(dim=-1), atol=1e-5)
    assert torch.allclose(highest, distribution.amax(dim=-1), atol=1e-5)
    assert logits.grad is not None
    assert torch.allclose(logits.grad, reference.grad, atol=1e-5)


def test_in_bfloat16_only_the_gradient_is_rounded() -> None:
    logits, position, token = inputs(10, torch.bfloat16)
    logprobs, entropy, highest = token_logprobs(logits, position, token, 1.0)
    exact = logits.detach().float().requires_grad_(True)
    expected = exact.log_softmax(dim=-1)[position, token]
    logprobs.sum().backward()
    expected.sum().backward()
    assert (logprobs.dtype, entropy.dtype, highest.dtype) == (torch.float32,) * 3
    assert torch.allclose(logprobs, expected, atol=1e-5)
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16
    assert torch.equal(logits.grad, exact.grad.to(torch.bfloat16))


def test_without_tokens_there_is_nothing() -> None:
    logprobs, entropy, highest = token_logprobs(torch.zeros(0, 50), torch.zeros(0).long(), torch.zeros(0).long(), 1.0)
    assert logprobs.shape == entropy.shape == highest.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_likeliest_token_has_the_highest_log_probability_to_the_last_bit(
    dtype: torch.dtype, temperature: float
) -> None:
    logits, position, _ = inputs(200, dtype)
    logprobs, _, highest = token_logprobs(logits, position, logits.argmax(dim=-1)[position], temperature)
    assert torch.equal(logprobs.detach(), highest[position])
