"""Attention by plain matrix products, which on a CPU take 20 to 40 % of the time of PyTorch's fused kernel.

Query heads that share a key-value head are more queries to it: all queries of one sequence to one key-value head are
the rows of one product, so that no keys are expanded.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.models.native import Kernels

TILE_TOKENS = 256


def triangle(size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "size size"]:
    """What is added to the scores of consecutive tokens among themselves: -inf above the diagonal, else 0."""
    hidden = torch.ones(size, size, dtype=torch.bool, device=device).triu(diagonal=1)
    return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


def probabilities(
    rows: Float[Tensor, "kv_heads rows head_dim"],
    keys: Float[Tensor, "kv_heads keys head_dim"],
    own: int,
    bias: Float[Tensor, "size size"],
    kernels: Kernels | None,
) -> Float[Tensor, "kv_heads rows keys"]:
    """Softmax of the scores of `own` tokens, the last ones of `keys`.

    Args:
        rows: scaled queries, those of a token next to each other.
        bias: a `triangle` of at least `own`.
    """
    scores = torch.bmm(rows, keys.transpose(1, 2))
    if kernels is not None:
        kernels.causal_softmax(scores, own)
        return scores
    if own > 1:
        scores.view(len(rows), own, -1, scores.shape[2])[..., -own:] += bias[:own, None, :own]
    return scores.softmax(dim=-1)


def causal_attention(
    query: Float[Tensor, "own heads head_dim"],
    key: Float[Tensor, "kv_heads keys head_dim"],
    value: Float[Tensor, "kv_heads keys head_dim"],
    scaling: float,
    bias: Float[Tensor, "size size"],
    kernels: Kernels | None,
    out: Float[Tensor, "own heads head_dim"],
) -> None:
    """Attention of the last `own` tokens of one sequence into `out`; without gradient.

    Args:
        bias: a `triangle` of at least min(own, TILE_TOKENS).
        kernels: those for tensors of this kind, if there are any.
    """
    (own, heads, head_dim), (kv_heads, seen, _) = query.shape, key.shape
    grouped = (query * scaling).view(own, kv_heads, heads // kv_heads, head_dim).transpose(0, 1)
    for start in range(0, own, TILE_TOKENS):
        end = min(start + TILE_TOKENS, own)
        visible = seen - own + end
        rows = grouped[:, start:end].reshape(kv_heads, -1, head_dim)
        weights = probabilities(rows, key[:, :visible], end - start, bias, kernels)
        attended = torch.bmm(weights, value[:, :visible])
        of_tokens = out[start:end].view(end - start, kv_heads, -1, head_dim)
        of_tokens.copy_(attended.view(kv_heads, end - start, -1, head_dim).transpose(0, 1))
