"""How many floating-point operations an update takes, and how much memory its activations: from the model's shape."""

from transformers import PretrainedConfig

from agentrft.learner.token_tree import TokenTree
from agentrft.models.heads import heads_of


def update_flops(config: PretrainedConfig, tree: TokenTree, predictions: int, *, all_weights: bool) -> float | None:
    """Of forward and backward over a tree's unique tokens, for models of Llama's kind; None for others.

    Linear layers and the head take 2 FLOPs a weight and token forward, as many for the gradient of their input, and
    with `all_weights` as many for their own. Attention takes 4 a visible pair, head and dimension forward and 8
    backward. Adapters, norms and the optimizer are not counted.

    Args:
        predictions: positions that the head is computed at.
    """
    inner = getattr(config, "intermediate_size", None)
    if not isinstance(inner, int):
        return None
    width, (heads, kv_heads, head_dim) = config.hidden_size, heads_of(config)
    per_layer = width * head_dim * (2 * heads + 2 * kv_heads) + 3 * width * inner
    passes = 6 if all_weights else 4
    linear = passes * per_layer * config.num_hidden_layers * tree.unique_tokens
    attention = 12 * heads * head_dim * config.num_hidden_layers * visible_pairs(tree)
    return linear + attention + passes * width * config.vocab_size * predictions


def visible_pairs(tree: TokenTree) -> float:
    """How many pairs of a token and one that it sees there are."""
    pairs = 0
    for segment in tree.segments:
        own = segment.end - segment.start
        pairs += own * sum(end - start for start, end in segment.ancestors) + own * (own + 1) // 2
    return float(pairs)


def activation_bytes(config: PretrainedConfig, tokens: int, itemsize: int) -> int:
    """What a pass with gradient keeps until its backward pass, roughly, attention's probabilities aside."""
    return config.num_hidden_layers * tokens * itemsize * _kept_per_layer(config)


def recomputed_bytes(config: PretrainedConfig, tokens: int, itemsize: int) -> int:
    """The same of a pass that keeps each layer's input alone, and computes one layer at a time again."""
    config = config.get_text_config()
    return tokens * itemsize * (config.num_hidden_layers * config.hidden_size + _kept_per_layer(config))


def _kept_per_layer(config: PretrainedConfig) -> int:
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    # Two sums, two norms, projections and their rotation, attention's result; gate, up and their product.
    return 9 * width + 3 * inner
