"""A model's context in a token tree: each token sees its ancestors and itself.

For attention the layout is cut into tiles: runs of queries of one node, with the ranges of keys that they see. Siblings
never meet and nothing above the diagonal is computed but inside a tile's own square, so no product is masked away.
Layers with a recurrent state run node by node, each from the state that its parent ended with, so that what siblings
share is computed once there too, and their gradients add up in it.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agentrft.learner import flex_attention
from agentrft.learner.fused_attention import FusedTiles
from agentrft.learner.tiles import Tile, gather, scatter_add, tiles_of, within_window
from agentrft.learner.token_tree import TokenTree
from agentrft.models.attention import PLAIN, ScoreRules, ruled_attention, seen
from agentrft.models.attention_products import probabilities, triangle
from agentrft.models.native import Kernels, TreeLayout, kernels_for
from agentrft.models.recurrence import Mixer, States, run_from

# Probabilities of all layers up to this size are kept for the backward pass; larger ones are computed again.
MAX_STORED_BYTES = 1 << 30


class TreePlan:
    """Context plan of a tree.

    On a CPU by our own kernels, or else by plain products, which take 40 % of the time of the fused kernel there, with
    a backward pass written by hand; on a GPU by one kernel for the whole tree, and elsewhere, or where that is short,
    by the fused kernel, tile by tile.

    Args:
        layers: of the model; decides whether all their probabilities can be kept.
        heads: query heads of a layer.
        recompute: whether layers are computed again in the backward pass, and keep nothing until then.
    """

    def __init__(
        self,
        tree: TokenTree,
        *,
        layers: int,
        heads: int,
        dtype: torch.dtype,
        device: torch.device,
        recompute: bool = False,
    ) -> None:
        self._tiles = tiles_of(tree)
        self._on_cpu = device.type == "cpu"
        self._fused: FusedTiles | flex_attention.FlexTree
        if flex_attention.is_usable(device, dtype, tree.unique_tokens):
            self._fused = flex_attention.FlexTree(tree, device)
        else:
            self._fused = FusedTiles(self._tiles, keep_copies=recompute)
        stored = layers * heads * dtype.itemsize * sum(tile.area for tile in self._tiles)
        self._keep_probabilities = stored <= MAX_STORED_BYTES
        longest = max(tile.end - tile.start for tile in self._tiles)
        self._bias = triangle(longest, dtype, device)
        self._layout = TreeLayout([(tile.start, tile.end, tile.keys) for tile in self._tiles])
        self._segments = tree.segments
        self._depths = torch.tensor(tree.position_ids, device=device)
        self._longest = max(tree.position_ids) + 1

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules = PLAIN
    ) -> Tensor:
        """See `ContextPlan.attend`."""
        rules = rules.within(self._longest)
        if not rules.plain or value.shape[2] != query.shape[2]:
            return self._attend_by_rules(query, key, value, scaling, rules)
        kernels = kernels_for(query, query.shape[-1])
        if kernels is not None and kernels.has_dot:
            return _NativeAttention.apply(query, key, value, self._layout, scaling, kernels)
        if self._on_cpu:
            return _TiledAttention.apply(query, key, value, self._tiles, self._bias, scaling, self._keep_probabilities)
        return self._fused.attend(query, key, value, scaling)

    def recur(self, mixer: Mixer, hidden: Tensor) -> Tensor:
        """See `ContextPlan.recur`."""
        ended: dict[int, States] = {}
        parts = []
        for segment in self._segments:
            begin = ended[segment.ancestors[-1][1]] if segment.ancestors else {}
            part, ended[segment.end] = run_from(mixer, hidden[:, segment.start : segment.end], begin)
            parts.append(part)
        return torch.cat(parts, dim=1)

    def _attend_by_rules(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules) -> Tensor:
        def of_tile(tile: Tile, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            own, depths = slice(tile.start, tile.end), self._depths[tile.start : tile.end]
            ranges = within_window(tile, rules.window)
            mask = seen(depths, torch.cat([self._depths[start:end] for start, end in ranges]), rules.window)
            return ruled_attention(query[:, own], gather(key, ranges), gather(value, ranges), scaling, mask, rules)

        has_probabilities = rules.softcap is not None or rules.sinks is not None
        if has_probabilities and not self._keep_probabilities and torch.is_grad_enabled():
            again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
            return torch.cat([again(of_tile, tile, query, key, value) for tile in self._tiles])
        return torch.cat([of_tile(tile, query, key, value) for tile in self._tiles])


class _NativeAttention(torch.autograd.Function):
    """As `_TiledAttention`, by the kernels; they make the probabilities again rather than keeping them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, scaling: float, kernels: Kernels
    ) -> Tensor:
        of_tokens = [part.transpose(0, 1) for part in (query, key, value)]
        result, normaliser = kernels.attend_tree(of_tokens[0], of_tokens[1], of_tokens[2], layout, scaling)
        ctx.save_for_backward(*of_tokens, normaliser)
        ctx.layout, ctx.scaling, ctx.kernels = layout, scaling, kernels
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, normaliser = ctx.saved_tensors
        of_result = gradients[0].contiguous()
        of_all = ctx.kernels.attend_tree_grad(query, key, value, ctx.layout, ctx.scaling, normaliser, of_result)
        return *(gradient.transpose(0, 1) for gradient in of_all), None, None, None


class _TiledAttention(torch.autograd.Function):
    """[heads, tokens, head_dim] queries, [kv_heads, tokens, head_dim] keys and values to [tokens, heads, head_dim].

    Inside, queries stand as [kv_heads, tokens, group, head_dim]: all of a tile that share a key-value head are then
    consecutive rows of one product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tiles: list[Tile],
        bias: Tensor,
        scaling: float,
        keep_probabilities: bool,
    ) -> Tensor:
        heads, tokens, head_dim = query.shape
        kv_heads = len(key)
        kernels = kernels_for(query, head_dim)
        scaled = query.new_empty(kv_heads, tokens, heads // kv_heads, head_dim)
        torch.mul(_by_kv_head(query, kv_heads), scaling, out=scaled)
        key, value = key.contiguous(), value.contiguous()
        result = torch.empty_like(scaled)
        kept = []
        for tile in tiles:
            weights = probabilities(_rows(scaled, tile), gather(key, tile.keys), tile.end - tile.start, bias, kernels)
            attended = torch.bmm(weights, gather(value, tile.keys))
            result[:, tile.start : tile.end] = attended.view(kv_heads, -1, heads // kv_heads, head_dim)
            if keep_probabilities:
                kept.append(weights)
        ctx.save_for_backward(scaled, key, value, bias, *kept)
        ctx.tiles, ctx.scaling, ctx.kernels = tiles, scaling, kernels
        return result.transpose(0, 1).reshape(tokens, heads, head_dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled, key, value, bias, *kept = ctx.saved_tensors
        kv_heads, tokens, group, head_dim = scaled.shape
        of_result = gradients[0].view(tokens, kv_heads, group, head_dim).transpose(0, 1).contiguous()
        of_query = torch.empty_like(scaled)
        of_key = torch.zeros(key.shape, dtype=torch.float32, device=key.device)
        of_value = torch.zeros_like(of_key)
        for index, tile in enumerate(ctx.tiles):
            keys, values = gather(key, tile.keys), gather(value, tile.keys)
            rows, own = _rows(scaled, tile), tile.end - tile.start
            weights = kept[index] if kept else probabilities(rows, keys, own, bias, ctx.kernels)
            outer = _rows(of_result, tile)
            scatter_add(of_value, tile.keys, torch.bmm(weights.transpose(1, 2), outer))
            of_weights = torch.bmm(outer, values.transpose(1, 2))
            of_scores = _of_scores(of_weights, weights, ctx.kernels)
            of_query[:, tile.start : tile.end] = torch.bmm(of_scores, keys).view(kv_heads, -1, group, head_dim)
            scatter_add(of_key, tile.keys, torch.bmm(of_scores.transpose(1, 2), rows))
        query = of_query.mul_(ctx.scaling).transpose(1, 2).reshape(kv_heads * group, tokens, head_dim)
        return query, of_key.to(key.dtype), of_value.to(value.dtype), None, None, None, None


def _by_kv_head(query: Tensor, kv_heads: int) -> Tensor:
    heads, tokens, head_dim = query.shape
    return query.view(kv_heads, heads // kv_heads, tokens, head_dim).transpose(1, 2)


def _rows(tensor: Tensor, tile: Tile) -> Tensor:
    """[kv_heads, queries x group, head_dim] of a tile."""
    kv_heads, _, _, head_dim = tensor.shape
    return tensor[:, tile.start : tile.end].reshape(kv_heads, -1, head_dim)


def _of_scores(of_weights: Tensor, weights: Tensor, kernels: Kernels | None) -> Tensor:
    """The gradient to a softmax's input."""
    if kernels is None:
        return torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
    kernels.softmax_grad(weights, of_weights)
    return of_weights
