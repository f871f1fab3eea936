"""GSPO: one importance ratio for each rollout, the geometric mean of its tokens', and clipping of whole rollouts.

Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071; in the form whose advantages may differ by
token (GSPO-token, there). Its ratios lie far closer to 1 than a token's do, so its clip is far narrower.
"""

import torch

from agentrft.learner.algorithms.base import MAX_LOG_RATIO, LossInputs, LossOutput, clipped_surrogate
from agentrft.learner.algorithms.grpo import advantages

__all__ = ["advantages", "loss"]


def loss(inputs: LossInputs) -> LossOutput:
    """Clipped surrogate of each token with its rollout's ratio, averaged over each rollout, then over rollouts."""
    change = inputs.logprobs - inputs.old_logprobs
    lengths = torch.bincount(inputs.rollout).clamp(min=1)
    with torch.no_grad():
        mean = torch.zeros(len(lengths), device=change.device).index_add_(0, inputs.rollout, change) / lengths
    # The rollout's ratio in value, the token's own in gradient.
    ratio = (mean[inputs.rollout] + change - change.detach()).clamp(max=MAX_LOG_RATIO).exp()
    surrogate, clipped, truncated = clipped_surrogate(inputs, ratio)
    return LossOutput(-(surrogate / lengths[inputs.rollout]).sum() / inputs.rollouts, clipped, truncated)
