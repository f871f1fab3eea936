"""What an update takes of memory, as it is predicted before there is one."""

import torch
from transformers import PretrainedConfig

from agentrft.learner import Policy
from agentrft.learner.flops import activation_bytes, recomputed_bytes
from agentrft.learner.tree_forward import ACTIVATION_SHARE, HEAD_ROWS
from agentrft.models.architecture import Architecture
from agentrft.models.memory import device_memory

# Of what is trained: a float32 master, its gradient, and Adam's two moments.
TRAINED_BYTES = 16
# A part's logits, their gradient, and what it is made from, in float32.
LOGITS_AT_ONCE = 3


def predicted_update_bytes(
    architecture: Architecture, config: PretrainedConfig, tokens: int, policy: Policy, device: torch.device
) -> dict[str, int]:
    """By what it is for.

    Args:
        tokens: unique ones of the tree, in one pass.
    """
    itemsize = policy.forward.dtype.itemsize
    trained = sum(master.numel() for master in policy.masters)
    kept = activation_bytes(config, tokens, itemsize)
    if kept > ACTIVATION_SHARE * device_memory(device):
        kept = recomputed_bytes(config, tokens, itemsize)
    return {
        # The engine's are merged with the adapter, so that they are others than those that it is trained on.
        "weights": 2 * architecture.parameters * itemsize,
        "trained": trained * (TRAINED_BYTES + itemsize),
        "activations": kept,
        "logits": LOGITS_AT_ONCE * min(HEAD_ROWS, tokens) * config.vocab_size * 4,
    }
