"""Gradients as one vector, and how far two of them are apart."""

import torch
from torch import Tensor

from agentrft.learner import Learner


def only_gradient(learner: Learner) -> Tensor:
    """Of the only optimizer step that it has taken, on the CPU: the first moment is a tenth of it."""
    state = learner.state()["optimizer"]["state"]
    return torch.cat([10 * state[place]["exp_avg"].cpu().flatten() for place in sorted(state)])


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Of the expected one's norm; not a number where that is nothing."""
    return float((found - expected).norm() / expected.norm())
