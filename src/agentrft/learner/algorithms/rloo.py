"""RLOO: each rollout's baseline is the mean reward of the others in its group.

Ahmadian et al. 2024, "Back to Basics", arXiv:2402.14740. The gradient is weighted by the importance ratio against
the sampling policy, truncated from above and taken as a constant: Ionides 2008, "Truncated Importance Sampling".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms.base import LossInputs, LossOutput
from agentrft.learner.group import GroupView

MAX_RATIO = 2.0


def advantages(group: GroupView) -> Float[Tensor, "tokens"]:
    """Reward minus the mean of the other rewards of the group."""
    return group.centred(leave_one_out=True)


def loss(inputs: LossInputs) -> LossOutput:
    """Policy gradient, summed over each rollout's tokens, averaged over the rollouts of the minibatch."""
    sampling, truncated = inputs.sampling_weights()
    with torch.no_grad():
        ratio = inputs.ratio()
        cut = ratio > MAX_RATIO
        weight = sampling * ratio.clamp(max=MAX_RATIO) * inputs.advantages
    loss = -(weight * inputs.logprobs).sum() / inputs.rollouts
    return LossOutput(loss, int(cut.sum()), int(truncated.sum()))
