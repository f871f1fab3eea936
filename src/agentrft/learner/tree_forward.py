"""Running a model over a token tree: attention to ancestors only, the head where something was sampled."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agentrft.learner.group import TrainingRow
from agentrft.learner.token_logprobs import token_logprobs
from agentrft.learner.token_tree import TokenTree
from agentrft.learner.tree_plan import TreePlan
from agentrft.models.forward import Forward
from agentrft.models.memory import device_memory

# Rows of the head computed at once: with a vocabulary of 50,000 to 150,000 tokens their logits are the largest tensor.
HEAD_ROWS = 1024
# Of the machine's memory; a pass that would keep more computes its layers again in the backward pass.
ACTIVATION_SHARE = 1 / 4


@dataclass(frozen=True)
class SampledLogprobs:
    """Every sampled token of the tree's rows, row after row; all tensors have shape [sampled tokens].

    Attributes:
        logprobs: under the current policy, with gradient.
        sampling_logprobs: under the policy that sampled.
        rollout: index of the rollout within its group.
        turn: index of the turn within its rollout.
        entropy: of the current policy where the token was sampled, in nats, without gradient.
        is_likeliest: whether no other token was likelier there.
        predictions: positions of the tree that predict a sampled token, siblings' first ones counted once.
    """

    logprobs: Tensor
    sampling_logprobs: Tensor
    rollout: Tensor
    turn: Tensor
    entropy: Tensor
    is_likeliest: Tensor
    predictions: int

    def first(self, tokens: int) -> "SampledLogprobs":
        """Of the first so many tokens."""
        return SampledLogprobs(
            self.logprobs[:tokens],
            self.sampling_logprobs[:tokens],
            self.rollout[:tokens],
            self.turn[:tokens],
            self.entropy[:tokens],
            self.is_likeliest[:tokens],
            self.predictions,
        )


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
    recompute = _too_large(forward, tree.unique_tokens)
    plan = TreePlan(
        tree,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        dtype=forward.dtype,
        device=device,
        recompute=recompute,
    )
    kept = forward.trunk(
        packed(tree.token_ids),
        packed(tree.position_ids),
        packed(list(predicting)),
        plan,
        recompute=recompute,
    )
    position, token = packed(heads), packed(targets)
    logprobs, entropy, highest = _predicted(forward, kept, position, token, temperature)
    sampling = [logprob for row in rows for logprob in row.sampling_logprobs]
    rollout = [row.rollout for row in rows for _ in row.sampled_positions]
    turn = [turn for row in rows for turn in row.turn_of_each]
    return SampledLogprobs(
        logprobs,
        torch.tensor(sampling, dtype=torch.float32, device=device),
        packed(rollout),
        packed(turn),
        entropy,
        logprobs.detach() >= highest,
        len(predicting),
    )


def _predicted(
    forward: Forward, kept: Tensor, position: Tensor, token: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each token, from the rows of the trunk that predict them: its log-probability, and where it was sampled the
    entropy and the highest log-probability.

    With more than `HEAD_ROWS` of these the logits of each part are dropped, and computed again in the backward pass.
    """

    def part(rows: Tensor, own: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logprobs, entropy, highest = token_logprobs(forward.head(rows), own, tokens, temperature)
        return logprobs, entropy[own], highest[own]

    if len(kept) <= HEAD_ROWS:
        return part(kept, position, token)
    logprobs = torch.empty(len(position), device=kept.device)
    entropy, highest = torch.empty_like(logprobs), torch.empty_like(logprobs)
    for start in range(0, len(kept), HEAD_ROWS):
        rows = kept[start : start + HEAD_ROWS]
        own = ((position >= start) & (position < start + HEAD_ROWS)).nonzero().squeeze(1)
        of_part = checkpoint(part, rows, position[own] - start, token[own], use_reentrant=False)
        logprobs = logprobs.index_put((own,), of_part[0])
        entropy[own], highest[own] = of_part[1].detach(), of_part[2].detach()
    return logprobs, entropy, highest


def _too_large(forward: Forward, tokens: int) -> bool:
    return forward.costs.kept_bytes(tokens) > ACTIVATION_SHARE * device_memory(forward.device)
