"""The engine's memory for attention: a pool of pages, each with all layers' keys and values of consecutive tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from agentrft.engine.pages import PAGE_TOKENS, pages_of
from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.decoding import DecodeAttention, decode_for
from agentrft.models.memory import LazyZeros, ReleasableZeros
from agentrft.models.native import CacheKernels, cache_kernels_for


class KVCache:
    """Keys and values in pages of `PAGE_TOKENS` tokens; which of them a sequence has, its page table says.

    A page stands in one piece, all layers together, so that a CPU has it in huge pages and copies it at once. Shape per
    layer: [pages, kv_heads, PAGE_TOKENS, head_dim]. Zeroed, because masked positions still enter the product with the
    values, where leftover NaNs would spread.

    Args:
        max_tokens: of one sequence.

    Attributes:
        max_tokens, dtype: as it was made.
        keys, values: by layer; those of layers that share them are the same.
        kernels: by layer, where there are any for it.
        decode: by layer, what attends to single tokens where keys and values stand, if anything does.
    """

    def __init__(
        self, shapes: CacheShapes, *, pages: int, max_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.max_tokens = max_tokens
        self.dtype = dtype
        own = {layer: shape for layer, shape in shapes.keys.items() if shape.shared_with is None}
        wanted = [(layer, "keys", shape.kv_heads, shape.key_dim) for layer, shape in own.items()]
        wanted += [(layer, "values", shape.kv_heads, shape.value_dim) for layer, shape in own.items()]
        of_page = shapes.elements_per_token * PAGE_TOKENS
        is_lazy = device.type == "cpu" and pages * of_page > 0
        size = (pages * of_page,)
        self._zeros = LazyZeros(size, dtype) if is_lazy else ReleasableZeros(size, dtype, device)
        self._pages = self._zeros.tensor.view(pages, of_page)
        parts: dict[str, dict[int, Tensor]] = {"keys": {}, "values": {}}
        start = 0
        for layer, kind, heads, head_dim in wanted:
            end = start + heads * PAGE_TOKENS * head_dim
            parts[kind][layer] = self._pages[:, start:end].view(pages, heads, PAGE_TOKENS, head_dim)
            start = end
        owners = {layer: shape.shared_with for layer, shape in shapes.keys.items()}
        owners = {layer: layer if owner is None else owner for layer, owner in owners.items()}
        self.keys = {layer: parts["keys"][owner] for layer, owner in owners.items()}
        self.values = {layer: parts["values"][owner] for layer, owner in owners.items()}
        self.kernels: dict[int, CacheKernels | None] = {
            layer: cache_kernels_for(self.keys[layer], self.values[layer]) for layer in owners
        }
        self.decode: dict[int, DecodeAttention | None] = {
            layer: decode_for(self.keys[layer], self.values[layer], shape.heads, self.kernels[layer])
            for layer, shape in shapes.keys.items()
        }

    def clear(self) -> None:
        """Forget everything, and give the memory back until the cache is `ready` again."""
        self._zeros.clear()

    def ready(self) -> None:
        """Have the memory, if it was given back."""
        self._zeros.ready()

    def copy(self, source: int, target: int) -> None:
        """Copy a page."""
        self._pages[target] = self._pages[source]

    def wipe(self, page: int) -> None:
        """Zero a page."""
        self._pages[page] = 0


@dataclass(frozen=True)
class CacheSize:
    """Of an engine's memory for sequences.

    Attributes:
        sequences: that can be open at once.
        pages: of keys and values, for all of them together.
    """

    sequences: int
    pages: int


def cache_within(
    shapes: CacheShapes, *, budget: int, max_tokens: int, itemsize: int, wanted: int, in_full: bool = False
) -> CacheSize:
    """What a budget in bytes holds, for at most `wanted` sequences; none of either where not even one fits.

    States are taken for each sequence, however long it is, and get no more than half of the budget where they are many.

    Args:
        max_tokens: of one sequence.
        itemsize: bytes of a key's or value's number.
        in_full: only as many sequences as fit at their longest.
    """
    most, page, states = pages_of(max_tokens), bytes_per_page(shapes, itemsize), 2 * shapes.state_bytes
    sequences = fitting = min(wanted, budget // max(1, bytes_per_slot(shapes, max_tokens, itemsize)))
    if fitting and not in_full:
        for_states = min(budget // 2, budget - most * page)
        sequences = max(fitting, min(wanted, for_states // states if states else wanted))
    pages = (budget - sequences * states) // page if page else sequences * most
    return CacheSize(sequences, min(pages, sequences * most))


def bytes_per_page(shapes: CacheShapes, itemsize: int) -> int:
    """Keys and values of `PAGE_TOKENS` tokens."""
    return shapes.elements_per_token * itemsize * PAGE_TOKENS


def bytes_per_slot(shapes: CacheShapes, max_tokens: int, itemsize: int) -> int:
    """What one sequence of `max_tokens` takes: keys and values, and states, live and kept."""
    return pages_of(max_tokens) * bytes_per_page(shapes, itemsize) + 2 * shapes.state_bytes
