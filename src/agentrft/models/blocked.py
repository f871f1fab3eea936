"""Weights in the blocked layout that oneDNN's bfloat16 kernels compute in.

From a plain weight the kernel makes that layout again in every call: a fifth of the time of a product of a few tokens.
The results are the same to the last bit.
"""

import torch
from torch import Tensor

from agentrft.models.memory import device_memory

# Of the machine's memory, for the second copy of the weights that this is.
MEMORY_SHARE = 1 / 16


def can_block(like: Tensor, size: int) -> bool:
    """Whether weights such as `like` gain, and their second copy of `size` bytes is small beside the machine.

    It depends on the whole memory rather than the free one, so that a resumed job computes as it did before.
    """
    return (
        like.device.type == "cpu"
        and like.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and size <= MEMORY_SHARE * device_memory(like.device)
    )


def block(weight: Tensor) -> Tensor:
    """[out, in] weight to the opaque tensor that `linear` takes."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, blocked: Tensor | None) -> Tensor:
    """[rows, in] to [rows, out], without gradient; by the blocked weight if there is one."""
    if blocked is None:
        return torch.nn.functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, blocked, bias, "none", [], "")
