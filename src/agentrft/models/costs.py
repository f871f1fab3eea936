"""What a pass costs for each token: weights that it is multiplied with, pairs that it is in, memory that it keeps."""

from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn
from transformers import PretrainedConfig

from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.heads import heads_of

# How configurations call the number of experts that a token is routed to.
_ROUTED = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")


@dataclass(frozen=True)
class PassCosts:
    """Of one token in all layers, the head aside.

    Attributes:
        weights: of the linear layers that it goes through, with those of the experts that it is routed to.
        pair_products: multiplications for the scores of one pair of tokens, and for what comes of them.
        activation_bytes: kept with gradient until the backward pass, roughly; attention's probabilities aside.
        layers, width, vocabulary: of the model.
        itemsize: bytes of one number.
    """

    weights: float
    pair_products: int
    activation_bytes: float
    layers: int
    width: int
    vocabulary: int
    itemsize: int

    def of(self, itemsize: int) -> "PassCosts":
        """As they are where numbers take so many bytes."""
        return replace(self, itemsize=itemsize, activation_bytes=self.activation_bytes * itemsize / self.itemsize)

    @property
    def recomputed_bytes(self) -> float:
        """Of `activation_bytes` what a pass keeps of one token that computes its layers again in the backward pass."""
        return self.layers * self.width * self.itemsize

    @property
    def layer_bytes(self) -> float:
        """Of `activation_bytes` those of one layer."""
        return self.activation_bytes / self.layers


def packed_costs(config: PretrainedConfig, itemsize: int) -> PassCosts:
    """Of a model that `PackedModel` computes."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    heads, kv_heads, head_dim = heads_of(config)
    # Two sums and two norms; queries, keys and values, the first two rotated and perhaps normalised, and what comes of
    # them, with a fused kernel's own queries and results; gate, up and their product.
    norms = heads + kv_heads if config.model_type == "qwen3" else 0
    attention = head_dim * (5 * heads + 3 * kv_heads + norms)
    return PassCosts(
        weights=layers * (width * head_dim * (2 * heads + 2 * kv_heads) + 3 * width * inner),
        pair_products=layers * 2 * heads * head_dim,
        activation_bytes=layers * itemsize * (4 * width + attention + 3 * inner),
        layers=layers,
        width=width,
        vocabulary=config.vocab_size,
        itemsize=itemsize,
    )


def modules_costs(
    decoder: nn.Module, config: PretrainedConfig, shapes: CacheShapes, *, activation_bytes: float, itemsize: int
) -> PassCosts:
    """Of a model of transformers' modules.

    Args:
        decoder, config: of its text part.
        activation_bytes: as measured.
    """
    return PassCosts(
        weights=_linear_weights(decoder, config),
        pair_products=sum(shape.heads * (shape.key_dim + shape.value_dim) for shape in shapes.keys.values()),
        activation_bytes=activation_bytes,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        itemsize=itemsize,
    )


def _linear_weights(decoder: nn.Module, config: PretrainedConfig) -> float:
    routed = next((value for name in _ROUTED if isinstance(value := getattr(config, name, None), int)), 1)
    total = 0.0
    for name, module in decoder.named_modules():
        last = name.rpartition(".")[2]
        if last == "experts":
            # [experts, ..., ...] each, or a list of modules that are counted below.
            own = [cast(Tensor, weight) for weight in module.parameters(recurse=False) if weight.ndim == 3]
            total += sum(weight.numel() * min(1.0, routed / len(weight)) for weight in own)
        elif isinstance(module, nn.Linear) and "lora_" not in name:
            total += module.weight.numel()
    return total
