"""RLOO: each rollout's baseline is the mean reward of the others in its group.

Ahmadian et al. 2024, "Back to Basics", arXiv:2402.14740. The gradient is weighted by the importance ratio against
the sampling policy, truncated from above and taken as a constant: Ionides 2008, "Truncated Importance Sampling".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms.base import LossInputs, LossOutput

MAX_RATIO = 2.0


def advantages(rewards: Float[Tensor, "rollouts"]) -> Float[Tensor, "rollouts"]:
    """Reward minus the mean of the other rewards of the group."""
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    return rewards - others


def loss(inputs: LossInputs) -> LossOutput:
    """Policy gradient, summed over each rollout's tokens, averaged over the rollouts of the step."""
    with torch.no_grad():
        ratio = torch.exp(inputs.logprobs - inputs.sampling_logprobs)
        truncated = ratio > MAX_RATIO
        weight = ratio.clamp(max=MAX_RATIO) * inputs.advantages
    return LossOutput(-(weight * inputs.logprobs).sum() / inputs.step_rollouts, int(truncated.sum()))
