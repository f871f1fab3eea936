"""Attention over a tree by PyTorch's fused kernel, tile by tile: for devices that have one, which are not CPUs.

For its backward pass the kernel keeps what it was given. The keys and values of a branch are copies, those of its trunk
beside its own, so that all layers' copies would be several times what the layers keep otherwise. They are made again
instead; what tells queries of a tile apart from the keys after them is made once for all layers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.tiles import Tile, gather
from agentrft.models.attention_products import triangle

# The kernel copies a bias whose rows do not begin at multiples of this many elements.
ALIGNMENT = 16


class FusedTiles:
    """Attention of a tree's tiles.

    Args:
        keep_copies: leave the kernel's operands to whoever decides what is kept: a layer that is computed again in the
            backward pass keeps none.
    """

    def __init__(self, tiles: Sequence[Tile], *, keep_copies: bool) -> None:
        self._tiles = tiles
        self._keep_copies = keep_copies
        self._biases: dict[int, Tensor] = {}

    def attend(
        self,
        query: Float[Tensor, "heads tokens dim"],
        key: Float[Tensor, "kv_heads tokens dim"],
        value: Float[Tensor, "kv_heads tokens dim"],
        scaling: float,
    ) -> Float[Tensor, "tokens heads dim"]:
        """Attention of one layer; all layers have as many heads for each of keys and values."""
        heads, kv_heads = len(query), len(key)
        parts = []
        for number, tile in enumerate(self._tiles):
            keys, values = gather(key, tile.keys), gather(value, tile.keys)
            # The query heads that share a key-value head are more queries to it.
            rows = query[:, tile.start : tile.end].reshape(1, kv_heads, -1, query.shape[2])
            copies = {}
            if len(tile.keys) > 1 and not self._keep_copies:
                copies[keys.data_ptr()] = partial(gather, key.detach(), tile.keys)
                copies[values.data_ptr()] = partial(gather, value.detach(), tile.keys)
            with _made_again(copies):
                attended = torch.nn.functional.scaled_dot_product_attention(
                    rows,
                    keys.unsqueeze(0),
                    values.unsqueeze(0),
                    attn_mask=self._bias(number, heads // kv_heads, query),
                    scale=scaling,
                )
            parts.append(attended.reshape(heads, tile.end - tile.start, -1).transpose(0, 1))
        return torch.cat(parts)

    def _bias(self, number: int, group: int, like: Tensor) -> Tensor:
        """[1, 1, group x queries, keys] added to a tile's scores."""
        if number not in self._biases:
            tile = self._tiles[number]
            own, keys = tile.end - tile.start, tile.key_count
            rows = like.new_zeros(group, own, -(-keys // ALIGNMENT) * ALIGNMENT)
            rows[:, :, keys - own : keys] = triangle(own, like.dtype, like.device)
            self._biases[number] = rows.view(1, 1, group * own, -1)[..., :keys]
        return self._biases[number]


@contextmanager
def _made_again(copies: dict[int, Callable[[], Tensor]]) -> Iterator[None]:
    """Let autograd keep how these are made instead of them, by their addresses."""
    if not copies:
        yield
        return

    def pack(tensor: Tensor) -> Any:
        make = copies.get(tensor.data_ptr())
        return tensor if make is None else (make, tensor.shape)

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        make, shape = kept
        return make().view(shape)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
