"""Dr. GRPO: GRPO without its two biases, the division by the deviation and by the rollout's own length.

Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783.
"""

from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms.base import LossInputs, LossOutput, clipped_surrogate
from agentrft.learner.algorithms.grpo import DUAL_CLIP
from agentrft.learner.group import GroupView


def advantages(group: GroupView) -> Float[Tensor, "tokens"]:
    """Reward - mean, within the group."""
    return group.centred()


def loss(inputs: LossInputs) -> LossOutput:
    """Clipped surrogate, summed over tokens, divided by a constant: as many as the rollouts might have sampled."""
    surrogate, clipped, truncated = clipped_surrogate(inputs, inputs.ratio(), DUAL_CLIP)
    return LossOutput(-surrogate.sum() / (inputs.rollouts * inputs.most_tokens), clipped, truncated)
