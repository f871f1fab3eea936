"""Attention over packed tokens, decided by a plan: the scores' rules that architectures have, and the products.

The engine (KV cache) and the learner (token trees) both lay tokens of many sequences end to end in one row of
shape [1, tokens] and differ only in what each of them sees of its context. Whoever computes a model hands each layer's
projected and rotated query, key and value to the plan, and each recurrent layer's input: see `models.planned`.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agentrft.models.recurrence import Mixer


@dataclass(frozen=True, eq=False)
class ScoreRules:
    """What an architecture does to attention's scores, beside scaling and hiding the future.

    Attributes:
        window: how many tokens each sees of its context, itself included; None all of them.
        softcap: scores s become softcap x tanh(s / softcap).
        sinks: [heads] scores of a key without a value, which takes its share of the probability.
    """

    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def plain(self) -> bool:
        return self.window is None and self.softcap is None and self.sinks is None

    def within(self, tokens: int) -> "ScoreRules":
        """The same for contexts of at most `tokens`: a window that hides nothing of them is none."""
        return replace(self, window=None) if self.window is not None and self.window >= tokens else self


PLAIN = ScoreRules()


class ContextPlan(Protocol):
    """What each packed token sees of its context."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules = PLAIN
    ) -> Tensor:
        """Attention of one layer.

        Args:
            layer: index of the layer, from 0.
            query: [heads, tokens, key_dim].
            key: [kv_heads, tokens, key_dim]; kv_heads divides heads.
            value: [kv_heads, tokens, value_dim].
            scaling: factor on the scores.

        Returns:
            [tokens, heads, value_dim].
        """
        ...

    def recur(self, mixer: Mixer, hidden: Tensor) -> Tensor:
        """A recurrent layer over [1, tokens, width], each token after its own predecessor."""
        ...


def grouped_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float, mask: Tensor | None) -> Tensor:
    """Attention of one sequence without expanding its key-value heads.

    The query heads that share a key-value head are treated as more queries to it.

    Args:
        query: [heads, queries, key_dim].
        key, value: [kv_heads, keys, key_dim], [kv_heads, keys, value_dim].
        mask: boolean [queries, keys], True where a query may look; None where it may look anywhere.

    Returns:
        [queries, heads, value_dim].
    """
    heads, queries, key_dim = query.shape
    kv_heads, keys, _ = key.shape
    groups = heads // kv_heads
    query = query.reshape(1, kv_heads, groups * queries, key_dim)
    if mask is not None:
        mask = mask.expand(groups, queries, keys).reshape(1, 1, groups * queries, keys)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key.unsqueeze(0), value.unsqueeze(0), attn_mask=mask, scale=scaling
    )
    return out.reshape(heads, queries, -1).transpose(0, 1)


def ruled_attention(
    query: Float[Tensor, "heads queries key_dim"],
    key: Float[Tensor, "kv_heads keys key_dim"],
    value: Float[Tensor, "kv_heads keys value_dim"],
    scaling: float,
    mask: Bool[Tensor, "queries keys"],
    rules: ScoreRules,
) -> Float[Tensor, "queries heads value_dim"]:
    """Attention with an architecture's rules; their window is in `mask`, True where a query may look."""
    if rules.softcap is None and rules.sinks is None:
        return grouped_attention(query, key, value, scaling, mask)
    heads, queries, key_dim = query.shape
    kv_heads, keys, _ = key.shape
    rows = query.reshape(kv_heads, -1, key_dim)
    scores = torch.bmm(rows, key.transpose(1, 2)).view(heads, queries, keys) * scaling
    weights = ruled_softmax(scores, torch.where(mask, 0.0, float("-inf")).to(scores.dtype), rules, rules.sinks)
    attended = torch.bmm(weights.reshape(kv_heads, -1, keys), value)
    return attended.view(heads, queries, -1).transpose(0, 1)


def ruled_softmax(scores: Tensor, bias: Tensor, rules: ScoreRules, sinks: Tensor | None) -> Tensor:
    """Probabilities over the last dimension of scores [heads, ..., keys].

    Args:
        bias: added to the capped scores: -inf where nothing is seen.
        sinks: [heads].
    """
    if rules.softcap is not None:
        scores = rules.softcap * torch.tanh(scores / rules.softcap)
    scores = scores + bias
    if sinks is None:
        return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
    shape = [len(sinks), *[1] * (scores.ndim - 1)]
    column = sinks.view(shape).expand(*scores.shape[:-1], 1).to(scores.dtype)
    return torch.cat((scores, column), dim=-1).softmax(dim=-1, dtype=torch.float32)[..., :-1].to(scores.dtype)


def seen(
    queries: Int[Tensor, "queries"], keys: Int[Tensor, "keys"], window: int | None
) -> Bool[Tensor, "queries keys"]:
    """Which keys the queries see, by the positions of both in one sequence."""
    visible = keys <= queries.unsqueeze(1)
    return visible if window is None else visible & (queries.unsqueeze(1) - keys < window)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[queries, keys] mask of queries that are the last positions of a sequence of `keys` tokens."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal=keys - queries)
