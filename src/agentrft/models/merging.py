"""A frozen weight with an adapter's change, in the weight's own dtype.

A step of bfloat16 is 1/256 to 1/128 of a weight, and the change that an adapter makes in its first updates is smaller.
Rounding to the nearest would lose it: a frozen weight stands on a step, so every change of less than half of one rounds
back (87 % of a first update at 2e-4 was lost). Here each element has a threshold of its own, spread evenly, from which
it moves to the next step. Then the change is there on average over the elements, which is what products sum over;
without a change a weight stays to the last bit; and the same adapter always gives the same weight. It is stochastic
rounding (Gupta et al. 2015, arXiv:1502.02551) with a draw that is fixed for each element.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.models.native import load_kernels

# Elements rounded at once, by PyTorch.
CHUNK = 1 << 22


@torch.no_grad()
def merged(
    frozen: Float[Tensor, "out in"], up: Float[Tensor, "out rank"], down: Float[Tensor, "rank in"], scale: float
) -> Float[Tensor, "out in"]:
    """frozen + scale * up @ down; a new tensor. All of one dtype."""
    if frozen.dtype != torch.bfloat16:
        return torch.addmm(frozen, up, down, alpha=scale)
    kernels = load_kernels() if frozen.device.type == "cpu" else None
    if kernels is not None:
        return kernels.merge(frozen.contiguous(), up.contiguous(), down.contiguous(), scale)
    result, rows = torch.empty_like(frozen), max(1, CHUNK // frozen.shape[1])
    wide = down.float()
    for start in range(0, len(frozen), rows):
        part = slice(start, start + rows)
        exact = torch.addmm(frozen[part].float(), up[part].float(), wide, alpha=scale)
        result[part] = _rounded(exact, start * frozen.shape[1])
    return result


@torch.no_grad()
def merged_stack(
    frozen: Float[Tensor, "experts out in"],
    up: Float[Tensor, "experts out rank"],
    down: Float[Tensor, "experts rank in"],
    scale: float,
) -> Float[Tensor, "experts out in"]:
    """`merged` of each expert; a new tensor."""
    if frozen.dtype != torch.bfloat16:
        return torch.baddbmm(frozen, up, down, alpha=scale)
    at_once = CHUNK // frozen[0].numel()
    if frozen.device.type != "cpu" and at_once > 0:
        return _in_blocks(frozen, up, down, scale, at_once)
    result = torch.empty_like(frozen)
    for expert, weight in enumerate(frozen):
        result[expert] = merged(weight, up[expert], down[expert], scale)
    return result


def _in_blocks(frozen: Tensor, up: Tensor, down: Tensor, scale: float, at_once: int) -> Tensor:
    """So many experts together: each is a few kernels otherwise, and there are thousands."""
    result = torch.empty_like(frozen)
    for start in range(0, len(frozen), at_once):
        part = slice(start, start + at_once)
        exact = torch.baddbmm(frozen[part].float(), up[part].float(), down[part].float(), alpha=scale)
        result[part] = _rounded(exact, 0)
    return result


def _rounded(exact: Float[Tensor, "*experts rows columns"], first: int) -> Tensor:
    """float32 to bfloat16 by the thresholds of the elements from number `first` on, of each expert."""
    rows, columns = exact.shape[-2:]
    moved = exact.view(torch.int32) + _thresholds(first, rows * columns, exact.device).view(rows, columns)
    return torch.where(exact.isfinite(), (moved >> 16).to(torch.int16).view(torch.bfloat16), exact.to(torch.bfloat16))


# What was computed of the thresholds, by device, where that takes a dozen kernels for each weight.
_known: dict[torch.device, Tensor] = {}


def _thresholds(first: int, count: int, device: torch.device) -> Tensor:
    """16 bits, as int32, for each element from number `first` on: what is added below the bits that are kept."""
    if device.type == "cpu":
        return _mixed(torch.arange(first, first + count))
    known = _known.get(device)
    if known is None or len(known) < first + count:
        known = _known[device] = _mixed(torch.arange(first + count, device=device)).to(torch.int16)
    return known[first : first + count].to(torch.int32) & 0xFFFF


def _mixed(index: Tensor) -> Tensor:
    low = 0xFFFFFFFF
    mixed = (index * 2654435761) & low
    mixed = mixed ^ (mixed >> 15)
    mixed = (mixed * 0x85EBCA6B) & low
    mixed = mixed ^ (mixed >> 13)
    return (mixed & 0xFFFF).to(torch.int32)
