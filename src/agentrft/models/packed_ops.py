"""The small operators of a transformer layer over packed tokens, with gradients written by hand.

Autograd's own graph of each of these has five to ten nodes, and on a CPU every node is a pass over memory and a call
that costs as much as a small product. All keep transformers' order of rounding, so that both give the same numbers.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.models.native import Kernels


def rms_norm(
    x: Float[Tensor, "*rows width"], weight: Float[Tensor, "width"], epsilon: float
) -> Float[Tensor, "*rows width"]:
    """x / rms(x) * weight, the division in float32. The weight gets no gradient (Zhang, Sennrich 2019)."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _RMSNorm.apply(x, weight, epsilon)
    return _normalised(x, epsilon)[0] * weight


def added_rms_norm(
    x: Float[Tensor, "rows width"],
    delta: Float[Tensor, "rows width"],
    weight: Float[Tensor, "width"],
    epsilon: float,
    kernels: Kernels | None,
) -> tuple[Float[Tensor, "rows width"], Float[Tensor, "rows width"]]:
    """x + delta, and `rms_norm` of it; as one operator where there are kernels for it."""
    if kernels is not None:
        return _AddedRMSNorm.apply(x, delta, weight, epsilon, kernels)
    total = x + delta
    return total, rms_norm(total, weight, epsilon)


def swiglu(gate_up: Float[Tensor, "tokens twice"], kernels: Kernels | None = None) -> Float[Tensor, "tokens width"]:
    """silu(gate) * up, where the first half of each row is the gate (Shazeer 2020, arXiv:2002.05202)."""
    if kernels is not None:
        return _NativeSwiGLU.apply(gate_up, kernels)
    if torch.is_grad_enabled() and gate_up.requires_grad:
        return _SwiGLU.apply(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate).mul_(up)


def rotate(
    x: Float[Tensor, "tokens heads head_dim"],
    cosine: Float[Tensor, "tokens 1 head_dim"],
    sine: Float[Tensor, "tokens 1 head_dim"],
    kernels: Kernels | None = None,
) -> Float[Tensor, "tokens heads head_dim"]:
    """Rotary position embedding, the halves of a head rotated against each other (Su et al. 2021, arXiv:2104.09864)."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotate.apply(x, cosine, sine, kernels)
    return _rotated(x, cosine, sine)


def _normalised(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) in x's dtype, and 1 / rms(x) in float32."""
    if x.device.type == "cuda" and _fuses_norms(x.device, x.dtype):
        return torch.ops.aten._fused_rms_norm(x, [x.shape[-1]], None, epsilon)
    return _normalised_plainly(x, epsilon)


def _normalised_plainly(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    exact = x.float()
    inverse = torch.linalg.vector_norm(exact, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (exact * inverse).to(x.dtype), inverse


@cache
def _fuses_norms(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether PyTorch normalises in one kernel here, in place of eight, and to the same numbers.

    Starting kernels is what a pass of the engine mostly waits for. The operator is no public one: it may be gone or be
    otherwise in another version.
    """
    x = torch.linspace(-3, 3, 128, device=device).view(2, 64).to(dtype)
    expected = _normalised_plainly(x, 1e-6)
    try:
        found = torch.ops.aten._fused_rms_norm(x, [64], None, 1e-6)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    pairs = list(zip(found, expected, strict=True))
    return all(a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-2) for a, b in pairs)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        normalised, inverse = _normalised(x, epsilon)
        ctx.save_for_backward(normalised, inverse, weight)
        return normalised * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normalised, inverse, weight = ctx.saved_tensors
        gradient = (gradients[0] * weight).float()
        along = torch.linalg.vecdot(gradient, normalised.float(), dim=-1).div_(gradient.shape[-1]).unsqueeze(-1)
        return gradient.addcmul_(normalised, along, value=-1).mul_(inverse).to(normalised.dtype), None, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        result = torch.empty_like(gate_up)
        of_gate, of_up = result.chunk(2, dim=-1)
        torch.mul(torch.nn.functional.silu(gate), gradients[0], out=of_up)
        of_gate.copy_(torch.ops.aten.silu_backward(gradients[0] * up, gate))
        return result


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor, kernels: Kernels | None) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        ctx.kernels = kernels
        return _rotated(x, cosine, sine, kernels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        cosine, sine = ctx.saved_tensors
        return _rotated(gradients[0], cosine, -sine, ctx.kernels), None, None, None


class _AddedRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, weight: Tensor, epsilon: float, kernels: Kernels
    ) -> tuple[Tensor, Tensor]:
        total, normed = kernels.added_rms_norm(x, delta, weight, epsilon)
        ctx.save_for_backward(total, weight)
        ctx.epsilon, ctx.kernels = epsilon, kernels
        return total, normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        total, weight = ctx.saved_tensors
        of_total, of_normed = (gradient.contiguous() for gradient in gradients)
        gradient = ctx.kernels.add_rms_norm_grad(total, weight, of_normed, of_total, ctx.epsilon)
        return gradient, gradient, None, None, None


class _NativeSwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, kernels: Kernels) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.kernels = kernels
        return kernels.swiglu(gate_up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.kernels.swiglu_grad(ctx.saved_tensors[0], gradients[0].contiguous()), None


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor, kernels: Kernels | None = None) -> Tensor:
    if kernels is not None:
        rotated = x.contiguous() if not x.is_contiguous() else x.clone()
        kernels.rotate(rotated, cosine, sine)
        return rotated
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1).mul_(sine).add_(x * cosine)
