"""What a pass costs for each token: weights that it is multiplied with, pairs that it is in, memory that it keeps."""

from dataclasses import dataclass, replace

from torch import nn
from transformers import PretrainedConfig

from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.experts import experts_per_token, stacked_weights
from agentrft.models.heads import heads_of


@dataclass(frozen=True)
class PassCosts:
    """Of one token in all layers, the head aside.

    Attributes:
        weights: of the linear layers that it goes through, with those of the experts that it is routed to.
        pair_products: multiplications for the scores of one pair of tokens, and for what comes of them.
        activation_bytes: kept with gradient until the backward pass, roughly; attention's probabilities aside.
        pass_bytes: kept of a pass, however many tokens it has: experts' weights merged with their adapters.
        largest_pass_bytes: of `pass_bytes` those of one layer, the one with most.
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
    pass_bytes: int = 0
    largest_pass_bytes: int = 0

    def of(self, itemsize: int) -> "PassCosts":
        """As they are where numbers take so many bytes."""
        ratio = itemsize / self.itemsize
        return replace(
            self,
            itemsize=itemsize,
            activation_bytes=self.activation_bytes * ratio,
            pass_bytes=int(self.pass_bytes * ratio),
            largest_pass_bytes=int(self.largest_pass_bytes * ratio),
        )

    def kept_bytes(self, tokens: int) -> float:
        """Of a pass with gradient, until its backward pass is over; with the gradient of one layer's experts."""
        return self.activation_bytes * tokens + self.pass_bytes + self.largest_pass_bytes

    def recomputed_bytes(self, tokens: int) -> float:
        """The same of a pass that keeps each layer's input, and computes one layer after the other again."""
        per_token = self.layers * self.width * self.itemsize + self.activation_bytes / self.layers
        return per_token * tokens + 2 * self.largest_pass_bytes


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
    decoder: nn.Module,
    config: PretrainedConfig,
    shapes: CacheShapes,
    *,
    activation_bytes: float,
    pass_bytes: int,
    largest_pass_bytes: int,
    itemsize: int,
) -> PassCosts:
    """Of a model of transformers' modules.

    Args:
        decoder, config: of its text part.
        activation_bytes: as measured.
        pass_bytes, largest_pass_bytes: see `PassCosts`.
    """
    return PassCosts(
        weights=_linear_weights(decoder, config),
        pair_products=sum(shape.heads * (shape.key_dim + shape.value_dim) for shape in shapes.keys.values()),
        activation_bytes=activation_bytes,
        pass_bytes=pass_bytes,
        largest_pass_bytes=largest_pass_bytes,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        itemsize=itemsize,
    )


def _linear_weights(decoder: nn.Module, config: PretrainedConfig) -> float:
    routed = experts_per_token(config)
    total = 0.0
    for name, module in decoder.named_modules():
        last = name.rpartition(".")[2]
        if last == "experts":
            # [experts, ..., ...] each, or a list of modules that are counted below.
            own = stacked_weights(module).values()
            total += sum(weight.numel() * min(1.0, routed / len(weight)) for weight in own)
        elif isinstance(module, nn.Linear) and "lora_" not in name:
            total += module.weight.numel()
    return total
