"""GRPO: rewards normalised within the group, a clipped importance ratio per token, no KL term.

Group-relative advantages: Shao et al. 2024, "DeepSeekMath", arXiv:2402.03300. Normalisation over all tokens of the
step, so that long rollouts weigh no less per token: Yu et al. 2025, "DAPO", arXiv:2503.14476. The bound on the
ratio where the advantage is negative (dual clip): Ye et al. 2020, arXiv:1912.09729.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms.base import LossInputs, LossOutput

CLIP = 0.2
DUAL_CLIP = 3.0
STD_FLOOR = 1e-4
# A ratio that overflows to infinity would make even a clipped token's gradient NaN.
MAX_LOG_RATIO = 20.0


def advantages(rewards: Float[Tensor, "rollouts"]) -> Float[Tensor, "rollouts"]:
    """(reward - mean) / standard deviation, within the group."""
    centred = rewards - rewards.mean()
    return centred / (rewards.std() + STD_FLOOR)


def loss(inputs: LossInputs) -> LossOutput:
    """Clipped surrogate, summed over the group's tokens, divided by the tokens of the step."""
    ratio = torch.exp((inputs.logprobs - inputs.sampling_logprobs).clamp(max=MAX_LOG_RATIO))
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    surrogate = torch.minimum(ratio * inputs.advantages, clipped * inputs.advantages)
    bounded = torch.where(inputs.advantages < 0, surrogate.maximum(DUAL_CLIP * inputs.advantages), surrogate)
    with torch.no_grad():
        removed = bounded != ratio * inputs.advantages
    return LossOutput(-bounded.sum() / inputs.step_tokens, int(removed.sum()))
