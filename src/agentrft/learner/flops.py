"""How many floating-point operations an update takes."""

from agentrft.learner.token_tree import TokenTree
from agentrft.models.costs import PassCosts


def update_flops(costs: PassCosts, tree: TokenTree, predictions: int, *, all_weights: bool) -> float:
    """Of forward and backward over a tree's unique tokens.

    Linear layers and the head take 2 FLOPs a weight and token forward, as many for the gradient of their input, and
    with `all_weights` as many for their own. Attention takes 4 a visible pair, head and dimension forward and 8
    backward. Adapters, norms, recurrent states and the optimizer are not counted.

    Args:
        predictions: positions that the head is computed at.
    """
    passes = 6 if all_weights else 4
    linear = passes * costs.weights * tree.unique_tokens
    attention = 6 * costs.pair_products * visible_pairs(tree)
    return linear + attention + passes * costs.width * costs.vocabulary * predictions


def visible_pairs(tree: TokenTree) -> float:
    """How many pairs of a token and one that it sees there are."""
    pairs = 0
    for segment in tree.segments:
        own = segment.end - segment.start
        pairs += own * sum(end - start for start, end in segment.ancestors) + own * (own + 1) // 2
    return float(pairs)
