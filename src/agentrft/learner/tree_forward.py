"""Running a model over a token tree: attention to ancestors only, the head where something was sampled."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agentrft.learner.group import TrainingRow
from agentrft.learner.token_tree import TokenTree
from agentrft.models.attention import causal_mask, grouped_attention


class TreeAttention:
    """Attention plan of a tree: each node's queries against its ancestors' keys and its own.

    Node by node instead of one masked product: siblings never meet, so nothing is computed to be masked away
    but the upper triangle of each node.
    """

    def __init__(self, tree: TokenTree, device: torch.device) -> None:
        self._segments = tree.segments
        self._masks = []
        for segment in tree.segments:
            own = segment.end - segment.start
            seen = own + sum(end - start for start, end in segment.ancestors)
            self._masks.append(causal_mask(own, seen, device) if own > 1 else None)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `AttentionPlan.attend`."""
        parts = []
        for segment, mask in zip(self._segments, self._masks, strict=True):
            own = query[:, segment.start : segment.end]
            ranges = [*segment.ancestors, (segment.start, segment.end)]
            parts.append(grouped_attention(own, _gather(key, ranges), _gather(value, ranges), scaling, mask))
        return torch.cat(parts)


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
    device = next(model.parameters()).device
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
        attention_plan=TreeAttention(tree, device),
    ).logits[0]
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    normaliser = torch.logsumexp(logits, dim=-1)
    head = torch.tensor(heads, dtype=torch.long, device=device)
    target = torch.tensor(targets, dtype=torch.long, device=device)
    logprobs = logits[head, target] - normaliser[head]
    with torch.no_grad():
        detached = logits.detach() - normaliser.detach().unsqueeze(1)
        entropy = -(detached.exp() * detached).sum(dim=-1)[head]
    sampling = [logprob for row in rows for logprob in row.sampling_logprobs]
    rollout = [row.rollout for row in rows for _ in row.sampled_positions]
    return SampledLogprobs(
        logprobs,
        torch.tensor(sampling, dtype=torch.float32, device=device),
        torch.tensor(rollout, dtype=torch.long, device=device),
        entropy,
    )
