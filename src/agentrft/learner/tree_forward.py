"""Running a model over a token tree: attention to ancestors only, the head where something was sampled."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agentrft.learner.group import TrainingRow
from agentrft.learner.token_logprobs import token_logprobs
from agentrft.learner.token_tree import TokenTree
from agentrft.models.attention import causal_mask, grouped_attention

# On a CPU in bfloat16, plain products with the scores in memory take 40 % of the time of the fused kernel, forward and
# backward. Longer segments go to the kernel, whose memory does not grow with the square of the length.
MAX_STORED_SCORES = 1 << 18


class TreeAttention:
    """Attention plan of a tree: each node's queries against its ancestors' keys and its own.

    Node by node instead of one masked product: siblings never meet, so nothing is computed to be masked away
    but the upper triangle of each node.
    """

    def __init__(self, tree: TokenTree, dtype: torch.dtype, device: torch.device) -> None:
        self._segments = tree.segments
        self._masks: list[Tensor | None] = []
        self._biases: list[Tensor | None] = []
        for segment in tree.segments:
            own = segment.end - segment.start
            seen = own + sum(end - start for start, end in segment.ancestors)
            mask = causal_mask(own, seen, device) if own > 1 else None
            small = device.type == "cpu" and own * seen <= MAX_STORED_SCORES
            bias = torch.zeros(own, seen, dtype=dtype, device=device) if small else None
            if bias is not None and mask is not None:
                bias.masked_fill_(~mask, float("-inf"))
            self._masks.append(mask)
            self._biases.append(bias)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `AttentionPlan.attend`."""
        parts = []
        for segment, mask, bias in zip(self._segments, self._masks, self._biases, strict=True):
            own = query[:, segment.start : segment.end]
            ranges = [*segment.ancestors, (segment.start, segment.end)]
            keys, values = _gather(key, ranges), _gather(value, ranges)
            if bias is not None:
                parts.append(_attend_by_products(own, keys, values, scaling, bias))
            else:
                parts.append(grouped_attention(own, keys, values, scaling, mask))
        return torch.cat(parts)


def _attend_by_products(query: Tensor, key: Tensor, value: Tensor, scaling: float, bias: Tensor) -> Tensor:
    """`grouped_attention` with its scores kept for the backward pass, and `bias` [queries, keys] added to them."""
    heads, queries, head_dim = query.shape
    kv_heads, keys, _ = key.shape
    grouped = (query * scaling).reshape(kv_heads, -1, head_dim)
    scores = torch.bmm(grouped, key.transpose(1, 2)).view(kv_heads, -1, queries, keys) + bias
    attended = torch.bmm(scores.softmax(dim=-1).view(kv_heads, -1, keys), value)
    return attended.reshape(heads, queries, head_dim).transpose(0, 1)


def _gather(tensor: Tensor, ranges: list[tuple[int, int]]) -> Tensor:
    first, last = ranges[0], ranges[-1]
    if all(left[1] == right[0] for left, right in itertools.pairwise(ranges)):
        return tensor[:, first[0] : last[1]]
    return torch.cat([tensor[:, start:end] for start, end in ranges], dim=1)


@dataclass(frozen=True)
class SampledLogprobs:
    """Every sampled token of the tree's rows, row after row; all tensors have shape [sampled tokens].

    Attributes:
        logprobs: under the current policy, with gradient.
        sampling_logprobs: under the policy that sampled.
        rollout: index of the rollout within its group.
        entropy: of the current policy where the token was sampled, in nats, without gradient.
    """

    logprobs: Tensor
    sampling_logprobs: Tensor
    rollout: Tensor
    entropy: Tensor


def tree_logprobs(model: nn.Module, tree: TokenTree, rows: list[TrainingRow], temperature: float) -> SampledLogprobs:
    """Log-probabilities of all sampled tokens by one pass over the tree's unique tokens.

    Args:
        model: a causal language model with planned attention.
        tree: built from `rows`.
        temperature: that the tokens were sampled at; 1 for demonstrations.
    """
    parameter = next(model.parameters())
    device = parameter.device
    predicting: dict[int, int] = {}
    heads, targets = [], []
    for row, layout in zip(rows, tree.row_layout, strict=True):
        for position in row.sampled_positions:
            heads.append(predicting.setdefault(layout[position - 1], len(predicting)))
            targets.append(row.token_ids[position])
    logits = model(
        input_ids=torch.tensor([tree.token_ids], device=device),
        position_ids=torch.tensor([tree.position_ids], device=device),
        logits_to_keep=torch.tensor(list(predicting), dtype=torch.long, device=device),
        use_cache=False,
        attention_plan=TreeAttention(tree, parameter.dtype, device),
    ).logits[0]
    position = torch.tensor(heads, dtype=torch.long, device=device)
    token = torch.tensor(targets, dtype=torch.long, device=device)
    logprobs, entropy = token_logprobs(logits, position, token, temperature)
    sampling = [logprob for row in rows for logprob in row.sampling_logprobs]
    rollout = [row.rollout for row in rows for _ in row.sampled_positions]
    return SampledLogprobs(
        logprobs,
        torch.tensor(sampling, dtype=torch.float32, device=device),
        torch.tensor(rollout, dtype=torch.long, device=device),
        entropy[position],
    )
