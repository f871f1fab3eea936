"""The linear layers of a packed model: a weight with the trained adapters in it, and gradients to those alone."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from agentrft.models.layouts import Product
from agentrft.models.lora import LoraRows


@dataclass
class Adapter:
    """A trained LoRA adapter of some of a projection's rows: their weight is the frozen one + scale * up @ down.

    Attributes:
        rows: the outputs of the fused projection that it belongs to.
        down, up: [rank, in] and [out, rank], in the model's dtype.
        down_gradient, up_gradient: float32 tensors of the same shapes; backward adds to them.
    """

    rows: slice
    down: Tensor
    up: Tensor
    down_gradient: Tensor
    up_gradient: Tensor
    scale: float


@dataclass(eq=False)
class Projection:
    """A linear layer, or several of the same input as one: `weight` is [out, in] with all trained adapters merged.

    `product` is that with the same weight laid out for the processor, where it pays.
    """

    weight: Tensor
    bias: Tensor | None
    adapters: list[Adapter] = field(default_factory=list)
    product: Product | None = None

    def __call__(self, x: Tensor, lora: LoraRows | None = None) -> Tensor:
        """[tokens, in] to [tokens, out]; `lora` has what each row's adapter adds, without gradient."""
        if self.adapters and torch.is_grad_enabled():
            return _AdaptedLinear.apply(x, self)
        y = self.compute(x)
        if lora is not None:
            lora.add(self, x, y)
        return y

    def compute(self, x: Tensor) -> Tensor:
        """[tokens, in] to [tokens, out], without gradient."""
        if self.product is not None:
            return self.product(x, self.bias)
        return nn.functional.linear(x, self.weight, self.bias)

    def accumulate(self, x: Tensor, gradient: Tensor) -> None:
        """Add the adapters' gradients: x is [tokens, in], gradient [tokens, out]."""
        inner = x @ torch.cat([adapter.down for adapter in self.adapters]).T
        ranks = [len(adapter.down) for adapter in self.adapters]
        outer = []
        for adapter, part in zip(self.adapters, inner.split(ranks, dim=1), strict=True):
            own = gradient[:, adapter.rows]
            adapter.up_gradient.add_(own.T @ part, alpha=adapter.scale)
            outer.append(own @ adapter.up)
        of_down = (torch.cat(outer, dim=1).T @ x).split(ranks)
        for adapter, part in zip(self.adapters, of_down, strict=True):
            adapter.down_gradient.add_(part, alpha=adapter.scale)


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection) -> Tensor:
        ctx.save_for_backward(x)
        ctx.projection = projection
        return projection.compute(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        ctx.projection.accumulate(x, gradients[0])
        return gradients[0] @ ctx.projection.weight, None
