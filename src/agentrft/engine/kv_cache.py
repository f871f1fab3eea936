"""The engine's memory for attention: one preallocated slot of keys and values per sequence."""

import math

import torch
from torch import Tensor

from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.memory import LazyZeros, ReleasableZeros
from agentrft.models.native import kernels_for

# On a CPU a batched product copies its operands where they are not dense, so that a part of a long row would be copied
# at every step; a few whole blocks are not. On a GPU it does not matter, and one product is quicker than several.
CPU_BLOCK_TOKENS = 64
# A GPU's fast products want rows that begin at multiples of so many elements; others are many times slower.
ALIGNMENT = 16


class KVCache:
    """Keys and values of `slots` sequences of at most `max_tokens` tokens, in blocks of consecutive tokens.

    Shape per layer: [blocks, slots, kv_heads, block_tokens, head_dim]. Zeroed, because masked positions still enter
    the product with the values, where leftover NaNs would spread.

    Attributes:
        max_tokens, block_tokens, dtype: as it was made.
        keys, values: by layer; those of layers that share them are the same.
        kernels: by layer, where they can compute with it.
    """

    def __init__(
        self, shapes: CacheShapes, *, slots: int, max_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.block_tokens = CPU_BLOCK_TOKENS if device.type == "cpu" else aligned(max_tokens)
        self.max_tokens = max_tokens
        self.dtype = dtype
        blocks = blocks_of(max_tokens, self.block_tokens)
        own = {layer: shape for layer, shape in shapes.keys.items() if shape.shared_with is None}
        wanted = [(layer, "keys", shape.kv_heads, shape.key_dim) for layer, shape in own.items()]
        wanted += [(layer, "values", shape.kv_heads, shape.value_dim) for layer, shape in own.items()]
        of_token = sum(heads * head_dim for _, _, heads, head_dim in wanted)
        size = (blocks * slots * self.block_tokens * of_token,)
        # One piece, so that a CPU has it in huge pages, and can give it all back at once.
        is_lazy = device.type == "cpu" and of_token > 0
        self._zeros = LazyZeros(size, dtype) if is_lazy else ReleasableZeros(size, dtype, device)
        everything = self._zeros.tensor
        parts: dict[str, dict[int, Tensor]] = {"keys": {}, "values": {}}
        start = 0
        for layer, kind, heads, head_dim in wanted:
            shape = (blocks, slots, heads, self.block_tokens, head_dim)
            parts[kind][layer] = everything[start : start + math.prod(shape)].view(shape)
            start += math.prod(shape)
        self._own = [*parts["keys"].values(), *parts["values"].values()]
        owners = {layer: shape.shared_with for layer, shape in shapes.keys.items()}
        owners = {layer: layer if owner is None else owner for layer, owner in owners.items()}
        self.keys = {layer: parts["keys"][owner] for layer, owner in owners.items()}
        self.values = {layer: parts["values"][owner] for layer, owner in owners.items()}
        self.kernels = {
            layer: kernels_for(self.keys[layer], shape.key_dim) if shape.key_dim == shape.value_dim else None
            for layer, shape in shapes.keys.items()
        }

    def clear(self) -> None:
        """Forget everything, and give the memory back until the cache is `ready` again."""
        self._zeros.clear()

    def ready(self) -> None:
        """Have the memory, if it was given back."""
        self._zeros.ready()

    def copy_prefix(self, source: int, target: int, start: int, tokens: int) -> None:
        """Copy positions [start, tokens) from one slot to another, and with them the rest of their blocks.

        The positions before `start` must be the same in both.
        """
        blocks = slice(start // self.block_tokens, blocks_of(tokens, self.block_tokens))
        for cache in self._own:
            cache[blocks, target] = cache[blocks, source]

    def wipe(self, slot: int, tokens: int) -> None:
        """Zero the first `tokens` positions of a slot, and the rest of their blocks."""
        for cache in self._own:
            cache[: blocks_of(tokens, self.block_tokens), slot] = 0


def bytes_per_slot(shapes: CacheShapes, max_tokens: int, itemsize: int) -> int:
    """What one sequence of at most `max_tokens` takes: keys and values, and states, live and kept."""
    tokens = blocks_of(max_tokens, CPU_BLOCK_TOKENS) * CPU_BLOCK_TOKENS
    return shapes.elements_per_token * itemsize * tokens + 2 * shapes.state_bytes


def blocks_of(tokens: int, block_tokens: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-tokens // block_tokens)


def aligned(tokens: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-tokens // ALIGNMENT) * ALIGNMENT
