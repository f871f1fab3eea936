"""Weights laid out for the processor that multiplies with them: a second copy of each.

From a plain weight PyTorch makes such a layout again in every call: a fifth of the time of a product of a few tokens.
Where the processor has a dot product of bfloat16 pairs, our own kernel takes 70 to 80 % of oneDNN's time for the rows
of a decoding step, and the same for many rows; with matrix units (AMX), oneDNN uses them and we leave it to that.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from agentrft.models.memory import device_memory
from agentrft.models.native import Kernels

# Of the machine's memory, for the second copy of the weights that this is.
MEMORY_SHARE = 1 / 16

# [rows, in] and perhaps a bias [out] to [rows, out], without gradient.
Product = Callable[[Tensor, Tensor | None], Tensor]


def pays(like: Tensor, size: int) -> bool:
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


def lay_out(weight: Tensor, kernels: Kernels | None) -> Product:
    """The product with an [out, in] weight, as it is now."""
    if kernels is not None and kernels.can_pack(weight) and not torch.cpu._is_amx_tile_supported():
        packed = kernels.pack(weight)
        return functools.partial(_packed, kernels, packed)
    return functools.partial(_blocked, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None))


def _packed(kernels: Kernels, packed: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    return kernels.product(x, packed, bias)


def _blocked(blocked: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, blocked, bias, "none", [], "")
