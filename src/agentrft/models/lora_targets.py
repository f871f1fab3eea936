"""Which layers of a model LoRA adapts: the linear ones of its text part, whatever an architecture calls them.

In a mixture of experts those are the attention's and the recurrent layers', and the experts' stacked weights, which are
no layers (`experts`). What routes stays as it is.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from agentrft.models.experts import parts_with_experts
from agentrft.models.planned import text_config, text_decoder

# PEFT adapts no `out_proj` in these, because their fused kernels pass its weight by.
_WITHOUT_OUT_PROJ = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
# What feed-forward parts of mixtures are called. PEFT takes these names for all experts' weights in some of them.
_FEED_FORWARD = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})


def lora_targets(model: PreTrainedModel) -> list[str]:
    """Full names of the linear layers to adapt, in order."""
    decoder = text_decoder(model)
    inside = {id(module) for module in decoder.modules()}
    routed = list(parts_with_experts(decoder))
    of_experts = {id(module) for part in routed for inner in _of_experts(part) for module in inner.modules()}
    skipped = {"out_proj"} if text_config(model).model_type in _WITHOUT_OUT_PROJ else set[str]()
    if routed:
        skipped |= _FEED_FORWARD
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and id(module) in inside - of_experts
        and name.rpartition(".")[2] not in skipped
        and module.out_features > 1
    ]


def _of_experts(part: nn.Module) -> list[nn.Module]:
    """A part that routes, whole; of a layer that routes beside its attention, as Gemma 4's do, what does."""
    children = dict(part.named_children())
    if not any("attn" in name or "attention" in name for name in children):
        return [part]
    return [child for name, child in children.items() if name in ("experts", "router", "gate")]


def adapter_parameters(model: PreTrainedModel, targets: Sequence[str], rank: int) -> int:
    """How many numbers an adapter of this rank of these layers has."""
    layers = [cast(nn.Linear, model.get_submodule(name)) for name in targets]
    return sum(rank * (layer.in_features + layer.out_features) for layer in layers)


def expert_adapter_parameters(weights: Mapping[str, Tensor], rank: int) -> int:
    """How many numbers adapters have, of this rank in each expert of these weights [experts, ..., ...]."""
    return sum(rank * len(weight) * sum(weight.shape[1:]) for weight in weights.values())
