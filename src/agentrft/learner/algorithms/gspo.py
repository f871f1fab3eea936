"""GSPO: one importance ratio for each rollout, the geometric mean of its tokens', and clipping of whole rollouts.

Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071; in the form whose advantages may differ by
token (GSPO-token, there). Its ratios lie far closer to 1 than a token's do, so its clip is far narrower.
"""

import torch

from agentrft.learner.algorithms.base import MAX_LOG_RATIO, LossInputs, LossOutput
from agentrft.learner.algorithms.grpo import advantages

__all__ = ["advantages", "loss"]


def loss(inputs: LossInputs) -> LossOutput:
    """Clipped surrogate of each token with its rollout's ratio, averaged over each rollout, then over rollouts."""
    weight, truncated = inputs.sampling_weights()
    change = inputs.logprobs - inputs.old_logprobs
    lengths = torch.bincount(inputs.rollout).clamp(min=1)
    with torch.no_grad():
        mean = torch.zeros(len(lengths), device=change.device).index_add_(0, inputs.rollout, change) / lengths
    # The rollout's ratio in value, the token's own in gradient.
    ratio = (mean[inputs.rollout] + change - change.detach()).clamp(max=MAX_LOG_RATIO).exp()
    free = ratio * inputs.advantages
    held = torch.minimum(free, ratio.clamp(1 - inputs.clip.low, 1 + inputs.clip.high) * inputs.advantages)
    clipped = int((held.detach() != free.detach()).sum())
    loss = -(weight * held / lengths[inputs.rollout]).sum() / inputs.rollouts
    return LossOutput(loss, clipped, int(truncated.sum()))
