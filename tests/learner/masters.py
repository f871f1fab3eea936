"""Policies whose adapters all change something."""

import torch

from agentrft.learner import Policy


def with_random_masters(policy: Policy, size: float = 0.1) -> Policy:
    """The same policy, with masters drawn anew: a new adapter changes nothing, and most of its gradients are zero."""
    source = torch.Generator().manual_seed(1)
    policy.load_master_state(
        {name: torch.randn(master.shape, generator=source) * size for name, master in policy.master_state().items()}
    )
    return policy
