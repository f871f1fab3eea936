"""Running a model over a token tree: attention to ancestors only, the head where something was sampled."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from agentrft.learner.group import TrainingRow
from agentrft.learner.token_logprobs import token_logprobs
from agentrft.learner.token_tree import TokenTree
from agentrft.learner.tree_attention import TreeAttention
from agentrft.models.forward import Forward


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


def tree_logprobs(forward: Forward, tree: TokenTree, rows: list[TrainingRow], temperature: float) -> SampledLogprobs:
    """Log-probabilities of all sampled tokens by one pass over the tree's unique tokens.

    Args:
        forward: the model.
        tree: built from `rows`.
        temperature: that the tokens were sampled at; 1 for demonstrations.
    """
    device = forward.device
    predicting: dict[int, int] = {}
    heads, targets = [], []
    for row, layout in zip(rows, tree.row_layout, strict=True):
        for position in row.sampled_positions:
            heads.append(predicting.setdefault(layout[position - 1], len(predicting)))
            targets.append(row.token_ids[position])
    packed = partial(torch.tensor, dtype=torch.long, device=device)
    config = forward.config
    attention = TreeAttention(
        tree, layers=config.num_hidden_layers, heads=config.num_attention_heads, dtype=forward.dtype, device=device
    )
    logits = forward(packed(tree.token_ids), packed(tree.position_ids), packed(list(predicting)), attention)
    position, token = packed(heads), packed(targets)
    logprobs, entropy = token_logprobs(logits, position, token, temperature)
    sampling = [logprob for row in rows for logprob in row.sampling_logprobs]
    rollout = [row.rollout for row in rows for _ in row.sampled_positions]
    return SampledLogprobs(
        logprobs,
        torch.tensor(sampling, dtype=torch.float32, device=device),
        packed(rollout),
        entropy[position],
    )
