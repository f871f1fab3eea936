"""MaxRL: rewards over the group's mean reward, which brings reinforcement closer to maximum likelihood.

Tajwar et al. 2026, "Maximum Likelihood Reinforcement Learning", arXiv:2602.02710. Of a hard sample, where few rollouts
are right, each success weighs as much as all successes of an easy one together. Loss as in GRPO.
"""

from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms.grpo import EPSILON, loss
from agentrft.learner.group import GroupView

__all__ = ["advantages", "loss"]


def advantages(group: GroupView) -> Float[Tensor, "tokens"]:
    """(reward - mean) / (mean - lowest), within the group: rewards need not begin at 0."""
    above = group.rewards.mean() - group.rewards.min()
    return group.centred() / (above.clamp(min=group.std_floor) + EPSILON)
