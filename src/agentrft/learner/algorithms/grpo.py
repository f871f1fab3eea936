"""GRPO: rewards normalised within the group, a clipped importance ratio per token, no KL term.

Group-relative advantages: Shao et al. 2024, "DeepSeekMath", arXiv:2402.03300. Normalisation over all tokens of the
minibatch, so that long rollouts weigh no less per token: Yu et al. 2025, "DAPO", arXiv:2503.14476.
"""

from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms.base import LossInputs, LossOutput, clipped_surrogate
from agentrft.learner.group import GroupView

DUAL_CLIP = 3.0
# Added to the deviation: rewards that differ in their last digits alone teach little.
EPSILON = 1e-4


def advantages(group: GroupView) -> Float[Tensor, "tokens"]:
    """(reward - mean) / standard deviation, within the group."""
    return group.centred() / (group.rewards.std().clamp(min=group.std_floor) + EPSILON)


def loss(inputs: LossInputs) -> LossOutput:
    """Clipped surrogate, summed over tokens, divided by the tokens of the minibatch."""
    surrogate, clipped, truncated = clipped_surrogate(inputs, inputs.ratio(), DUAL_CLIP)
    return LossOutput(-surrogate.sum() / inputs.tokens, clipped, truncated)
