"""CISPO: the ratio is a weight that is clipped, and no token loses its gradient.

MiniMax 2025, "MiniMax-M1", arXiv:2506.13585. Clipping as in PPO takes their gradient from just those rare tokens whose
probability an update changes most, such as those at which an agent begins to think again.
"""

import torch

from agentrft.learner.algorithms.base import LossInputs, LossOutput
from agentrft.learner.algorithms.grpo import advantages

__all__ = ["advantages", "loss"]


def loss(inputs: LossInputs) -> LossOutput:
    """Policy gradient, weighted by the ratio where it is below 1 + clip.high, divided by the minibatch's tokens."""
    sampling, truncated = inputs.sampling_weights()
    with torch.no_grad():
        ratio = inputs.ratio()
        cut = ratio > 1 + inputs.clip.high
        weight = sampling * ratio.clamp(max=1 + inputs.clip.high) * inputs.advantages
    return LossOutput(-(weight * inputs.logprobs).sum() / inputs.tokens, int(cut.sum()), int(truncated.sum()))
