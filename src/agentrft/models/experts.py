"""The experts of a mixture: which weights they are, and what an adapter makes of them.

transformers keeps all experts of a layer in one weight of three dimensions. An adapter of it is one of each expert,
side by side, as PEFT's `target_parameters` has it. It is computed with the merged weight, the one that an engine
generates with: in bfloat16 the change would otherwise be lost in the learner and not in the engine (see `merging`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from agentrft.models.merging import merged_stack
from agentrft.models.planned import text_decoder

# How configurations call the number of experts that a token is routed to.
_ROUTED = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")


def parts_with_experts(decoder: nn.Module) -> Iterator[nn.Module]:
    """The feed-forward parts that route tokens to experts."""
    return (module for module in decoder.modules() if isinstance(getattr(module, "experts", None), nn.Module))


def has_experts(model: PreTrainedModel) -> bool:
    """Whether the model routes tokens to experts."""
    return any(True for _ in parts_with_experts(text_decoder(model)))


def experts_per_token(config: PretrainedConfig) -> int:
    """How many experts of a layer a token is routed to; 1 where the configuration does not say."""
    found = (getattr(config, name, None) for name in _ROUTED)
    return next((value for value in found if isinstance(value, int) and value > 0), 1)


def stacked_weights(experts: nn.Module) -> dict[str, Tensor]:
    """The weights [experts, ..., ...] of a module of experts, adapted or not, by their own names."""
    while isinstance(experts, ParamWrapper):
        experts = cast(nn.Module, experts.base_layer)
    return {name: weight for name, weight in experts.named_parameters(recurse=False) if weight.ndim == 3}


def expert_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """All weights of experts that can be adapted, by their full names."""
    decoder = text_decoder(model)
    inside = {id(part.experts) for part in parts_with_experts(decoder)}
    return {
        f"{name}.{own}": weight
        for name, module in model.named_modules()
        if id(module) in inside
        for own, weight in stacked_weights(module).items()
    }


def largest_layer(weights: Mapping[str, Tensor]) -> int:
    """Numbers of the experts of one layer, the one with most; of weights by their full names."""
    layers: dict[str, int] = {}
    for name, weight in weights.items():
        layer = name.rpartition(".")[0]
        layers[layer] = layers.get(layer, 0) + weight.numel()
    return max(layers.values(), default=0)


def short_name(name: str) -> str:
    """A weight's name in all layers alike, such as `experts.down_proj`: PEFT looks for the end of a name."""
    return ".".join(name.split(".")[-2:])


def expert_rank(lora_rank: int, per_token: int) -> int:
    """Of each expert's adapter: those that a token meets have a linear layer's rank together."""
    return max(1, lora_rank // per_token)


def merged_experts(
    experts: nn.Module,
    name: str,
    down: Float[Tensor, "experts_by_rank inputs"],
    up: Float[Tensor, "outputs rank_by_experts"],
    scale: float,
) -> Float[Tensor, "experts rows columns"]:
    """A weight with an adapter's change; a new tensor, with gradient to the adapter.

    Args:
        experts: the module that has the weight.
        name: of the weight.
        down, up: as PEFT has them: `down` expert after expert, `up` rank after rank.

    Raises:
        ValueError: the adapter's shapes are of another weight.
    """
    frozen = cast(Tensor, getattr(experts, name))
    n = len(frozen)
    rows, columns = frozen.shape[1:]
    inputs, outputs = (rows, columns) if _is_transposed(experts) else (columns, rows)
    fits = down.ndim == up.ndim == 2 and len(down) == up.shape[1] and len(down) % n == 0
    if not fits or (len(up), down.shape[1]) != (outputs, inputs):
        raise ValueError(f"{list(down.shape)} and {list(up.shape)} are no adapter of {name} {list(frozen.shape)}")
    down_each = down.to(frozen).reshape(n, -1, inputs)
    up_each = up.to(frozen).reshape(outputs, -1, n).permute(2, 0, 1)
    if _is_transposed(experts):
        up_each, down_each = down_each.mT, up_each.mT
    return cast(Tensor, _Merged.apply(frozen, up_each, down_each, scale))


class ExpertAdapter(ParamWrapper):
    """PEFT's adapter of one weight of experts, computed as an engine has it.

    Attributes:
        is_left_out: see `without_expert_adapters`.
    """

    is_left_out = False

    def merged_weight(self) -> Tensor:
        """The weight with the adapter's change."""
        down, up = cast(nn.Linear, self.lora_A["default"]), cast(nn.Linear, self.lora_B["default"])
        scale = self.scaling["default"]
        return merged_experts(self.get_base_layer(), self.parameter_name, down.weight, up.weight, scale)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the experts give with the merged weight."""
        if self.is_left_out:
            return self.base_layer(*arguments, **named)
        with _in_place_of(self.get_base_layer(), self.parameter_name, self.merged_weight()):
            return self.base_layer(*arguments, **named)


def adopt_expert_adapters(model: nn.Module) -> None:
    """Make `ExpertAdapter`s of those that PEFT has put into a model."""
    for module in model.modules():
        if type(module) is ParamWrapper:
            module.__class__ = ExpertAdapter


def has_expert_adapters(model: nn.Module) -> bool:
    """Whether adapters change the experts of a model."""
    return any(isinstance(module, ExpertAdapter) for module in model.modules())


@contextmanager
def without_expert_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, experts are computed with their frozen weights, and none is merged."""
    adapters = [module for module in model.modules() if isinstance(module, ExpertAdapter)]
    for adapter in adapters:
        adapter.is_left_out = True
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.is_left_out = False


class _Merged(torch.autograd.Function):
    """frozen + scale * up @ down of each expert, rounded as `merged` rounds; the gradient passes the rounding by."""

    @staticmethod
    def forward(ctx: Any, frozen: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(up, down)
        ctx.scale = scale
        return merged_stack(frozen, up, down, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None]:
        up, down = ctx.saved_tensors
        gradient = gradients[0]
        return None, ctx.scale * (gradient @ down.mT), ctx.scale * (up.mT @ gradient), None


def _is_transposed(experts: nn.Module) -> bool:
    """Whether an expert's weight is [inputs, outputs], as gpt-oss has it."""
    return bool(getattr(experts, "is_transposed", False))


@contextmanager
def _in_place_of(module: nn.Module, name: str, weight: Tensor) -> Iterator[None]:
    """What a module has of its own goes before its parameters, which stay where they are."""
    vars(module)[name] = weight
    try:
        yield
    finally:
        del vars(module)[name]
