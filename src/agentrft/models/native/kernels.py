"""The compiled operators as functions on tensors. All take bfloat16 tensors on the CPU and know no gradient."""

import ctypes
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import BFloat16, Float32
from torch import Tensor

from agentrft.models.native.build import build

HEAD_DIM_MULTIPLE = 32

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
# Queries, keys and values, and the table of pages.
_PAGED = [_POINTER, _INT, _POINTER, _POINTER, _INT, _POINTER, _INT]
_SIGNATURES = {
    "add_rms_norm": [_POINTER] * 5 + [_INT] * 2 + [_FLOAT],
    "add_rms_norm_grad": [_POINTER] * 5 + [_INT] * 2 + [_FLOAT],
    "rotate": [_POINTER] * 3 + [_INT] * 4,
    "swiglu": [_POINTER] * 2 + [_INT] * 2,
    "swiglu_grad": [_POINTER] * 3 + [_INT] * 2,
    "softmax_grad": [_POINTER] * 3 + [_INT] * 2,
    "causal_softmax": [_POINTER] + [_INT] * 4,
    "merge": [_POINTER] * 4 + [_INT] * 3 + [_FLOAT],
    "pack": [_POINTER] * 2 + [_INT] * 2,
    "product": [_POINTER, _INT] + [_POINTER] * 3 + [_INT] * 3,
    "store": [_POINTER] * 2 + [_INT] * 2 + [_POINTER] * 2 + [_INT] + [_POINTER] * 2 + [_INT] * 5,
    "gather": [_POINTER, _INT, _POINTER] + [_INT] * 3 + [_POINTER],
    "attend_bf16": [*_PAGED, _POINTER, _POINTER] + [_INT] * 5 + [_FLOAT],
    "attend_float": [*_PAGED, _POINTER, _POINTER] + [_INT] * 5 + [_FLOAT],
    "attend_chunks": [*_PAGED] + [_POINTER] * 4 + [_INT] * 5 + [_FLOAT],
    "attend_tree": [_POINTER] * 3 + [_INT] * 3 + [_POINTER] * 5 + [_INT] + [_POINTER] * 2 + [_INT] * 3 + [_FLOAT],
    "attend_tree_grad": [_POINTER] * 3 + [_INT] * 3 + [_POINTER] * 5 + [_INT] + [_POINTER] * 5 + [_INT] * 4 + [_FLOAT],
}


class TreeLayout:
    """Tiles of a token tree's queries, as the kernels take them.

    Args:
        tiles: of each the first token, the one behind its last, and the ranges of keys that it sees, in order; its own
            tokens are the last ones of the last range.
    """

    def __init__(self, tiles: Sequence[tuple[int, int, Sequence[tuple[int, int]]]]) -> None:
        ranges = [one for _, _, keys in tiles for one in keys]
        first_range = [0, *itertools.accumulate(len(keys) for _, _, keys in tiles)]
        columns = [tile[0] for tile in tiles], [tile[1] for tile in tiles], first_range
        bounds = [start for start, _ in ranges], [end for _, end in ranges]
        self._tensors = [torch.tensor(column, dtype=torch.long) for column in (*columns, *bounds)]
        self._count = len(tiles)

    @property
    def fields(self) -> tuple[int, ...]:
        """Their addresses, and the number of tiles."""
        return *(tensor.data_ptr() for tensor in self._tensors), self._count


class Kernels:
    """See the C++ files; what is computed is said at `models.packed_ops`.

    Attributes:
        has_dot: whether the processor multiplies pairs of bfloat16, which `pack`, `product` and `attend_tree` need.
        library: as it is.
    """

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        for name, arguments in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, None
        loaded.packed_outputs.restype = _INT
        self._packed_outputs = int(loaded.packed_outputs())
        self.has_dot = self._packed_outputs > 0
        self.library = loaded

    def merge(
        self,
        frozen: BFloat16[Tensor, "out in"],
        up: BFloat16[Tensor, "out rank"],
        down: BFloat16[Tensor, "rank in"],
        scale: float,
    ) -> BFloat16[Tensor, "out in"]:
        """See `models.merging`. All contiguous."""
        out = torch.empty_like(frozen)
        pointers = frozen.data_ptr(), up.data_ptr(), down.data_ptr(), out.data_ptr()
        self.library.merge(*pointers, *frozen.shape, len(down), scale)
        return out

    def can_pack(self, weight: BFloat16[Tensor, "outputs inputs"]) -> bool:
        """Whether `pack` takes a weight of this shape."""
        outputs, inputs = weight.shape
        return self.has_dot and outputs % self._packed_outputs == 0 and inputs % 2 == 0

    def pack(self, weight: BFloat16[Tensor, "outputs inputs"]) -> BFloat16[Tensor, "outputs inputs"]:
        """The weight in the layout of `product`; the shape stays, the order inside does not."""
        weight = weight.detach().contiguous()
        packed = torch.empty_like(weight)
        self.library.pack(weight.data_ptr(), packed.data_ptr(), *weight.shape)
        return packed

    def product(
        self,
        x: BFloat16[Tensor, "rows inputs"],
        packed: BFloat16[Tensor, "outputs inputs"],
        bias: BFloat16[Tensor, "outputs"] | None,
    ) -> BFloat16[Tensor, "rows outputs"]:
        """x @ weight.T + bias, of a weight that `pack` gave."""
        if x.stride(1) != 1:
            x = x.contiguous()
        out = x.new_empty(len(x), len(packed))
        added = None if bias is None else bias.data_ptr()
        pointers = packed.data_ptr(), added, out.data_ptr()
        self.library.product(x.data_ptr(), x.stride(0), *pointers, len(x), *packed.shape)
        return out

    def add_rms_norm(
        self,
        x: BFloat16[Tensor, "rows width"],
        delta: BFloat16[Tensor, "rows width"] | None,
        weight: BFloat16[Tensor, "width"],
        epsilon: float,
    ) -> BFloat16[Tensor, "rows width"]:
        """Add `delta` to `x` in place; returns the normalised sum. All contiguous."""
        return self._add_rms_norm(x, delta, weight, x, epsilon)

    def added_rms_norm(
        self,
        x: BFloat16[Tensor, "rows width"],
        delta: BFloat16[Tensor, "rows width"],
        weight: BFloat16[Tensor, "width"],
        epsilon: float,
    ) -> tuple[BFloat16[Tensor, "rows width"], BFloat16[Tensor, "rows width"]]:
        """x + delta, and that normalised."""
        total = torch.empty_like(x)
        return total, self._add_rms_norm(x, delta, weight, total, epsilon)

    def _add_rms_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, total: Tensor, epsilon: float) -> Tensor:
        out = torch.empty_like(x)
        change = None if delta is None else delta.data_ptr()
        pointers = x.data_ptr(), change, weight.data_ptr(), total.data_ptr(), out.data_ptr()
        self.library.add_rms_norm(*pointers, *x.shape, epsilon)
        return out

    def add_rms_norm_grad(
        self,
        total: BFloat16[Tensor, "rows width"],
        weight: BFloat16[Tensor, "width"],
        of_out: BFloat16[Tensor, "rows width"],
        of_total: BFloat16[Tensor, "rows width"] | None,
        epsilon: float,
    ) -> BFloat16[Tensor, "rows width"]:
        """The gradient to `x` and `delta`, from those to the normalised sum and to the sum itself. All contiguous."""
        out = torch.empty_like(total)
        direct = None if of_total is None else of_total.data_ptr()
        pointers = total.data_ptr(), weight.data_ptr(), of_out.data_ptr(), direct, out.data_ptr()
        self.library.add_rms_norm_grad(*pointers, *total.shape, epsilon)
        return out

    def rotate(
        self,
        x: BFloat16[Tensor, "tokens heads head_dim"],
        cosine: BFloat16[Tensor, "tokens 1 head_dim"],
        sine: BFloat16[Tensor, "tokens 1 head_dim"],
    ) -> None:
        """Rotary embedding in place. Heads must stand next to each other; tokens may be further apart."""
        tokens, heads, head_dim = x.shape
        pointers = x.data_ptr(), cosine.data_ptr(), sine.data_ptr()
        self.library.rotate(*pointers, tokens, x.stride(0), heads, head_dim)

    def swiglu(self, gate_up: BFloat16[Tensor, "rows twice"]) -> BFloat16[Tensor, "rows width"]:
        """silu(gate) * up, the gate being the first half of each row. Contiguous."""
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(rows, width)
        self.library.swiglu(gate_up.data_ptr(), out.data_ptr(), rows, width)
        return out

    def swiglu_grad(
        self, gate_up: BFloat16[Tensor, "rows twice"], of_out: BFloat16[Tensor, "rows width"]
    ) -> BFloat16[Tensor, "rows twice"]:
        """The gradient of `swiglu` to its input. Contiguous."""
        out = torch.empty_like(gate_up)
        self.library.swiglu_grad(gate_up.data_ptr(), of_out.data_ptr(), out.data_ptr(), *of_out.shape)
        return out

    def softmax_grad(
        self, weights: BFloat16[Tensor, "heads rows keys"], of_weights: BFloat16[Tensor, "heads rows keys"]
    ) -> None:
        """Turn the gradient to a softmax's result into that to its input, in place. Contiguous."""
        pointers = weights.data_ptr(), of_weights.data_ptr(), of_weights.data_ptr()
        self.library.softmax_grad(*pointers, weights.shape[0] * weights.shape[1], weights.shape[2])

    def causal_softmax(self, scores: BFloat16[Tensor, "heads rows keys"], tokens: int) -> None:
        """Softmax in place: `tokens` tokens, the last ones of the keys, whose rows stand together. Contiguous."""
        heads, rows, keys = scores.shape
        self.library.causal_softmax(scores.data_ptr(), heads, tokens, rows // tokens, keys)

    def attend_tree(
        self,
        query: BFloat16[Tensor, "tokens heads head_dim"],
        key: BFloat16[Tensor, "tokens kv_heads head_dim"],
        value: BFloat16[Tensor, "tokens kv_heads head_dim"],
        layout: TreeLayout,
        scaling: float,
    ) -> tuple[BFloat16[Tensor, "tokens heads head_dim"], Float32[Tensor, "tokens heads"]]:
        """Attention of each tile's queries to its ranges of keys, and the logarithms of the sums of exponentials."""
        query, key, value = (heads_together(part) for part in (query, key, value))
        tokens, heads, head_dim = query.shape
        out, normaliser = query.new_empty(query.shape), torch.empty(tokens, heads)
        self.library.attend_tree(
            *_places(query, key, value),
            *layout.fields,
            out.data_ptr(),
            normaliser.data_ptr(),
            heads,
            key.shape[1],
            head_dim,
            scaling,
        )
        return out, normaliser

    def attend_tree_grad(
        self,
        query: BFloat16[Tensor, "tokens heads head_dim"],
        key: BFloat16[Tensor, "tokens kv_heads head_dim"],
        value: BFloat16[Tensor, "tokens kv_heads head_dim"],
        layout: TreeLayout,
        scaling: float,
        normaliser: Float32[Tensor, "tokens heads"],
        of_out: BFloat16[Tensor, "tokens heads head_dim"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients to query, key and value, contiguous; `of_out` is too."""
        query, key, value = (heads_together(part) for part in (query, key, value))
        gradients = [torch.empty(part.shape, dtype=part.dtype) for part in (query, key, value)]
        pointers = (tensor.data_ptr() for tensor in (normaliser, of_out, *gradients))
        self.library.attend_tree_grad(
            *_places(query, key, value),
            *layout.fields,
            *pointers,
            *query.shape[:2],
            key.shape[1],
            query.shape[2],
            scaling,
        )
        return gradients[0], gradients[1], gradients[2]


def heads_together(tensor: BFloat16[Tensor, "tokens heads head_dim"]) -> BFloat16[Tensor, "tokens heads head_dim"]:
    """The same, its heads next to each other, as the kernels take them; tokens may be further apart.

    A model that makes rotated keys out of parts has them head by head.
    """
    is_together = tensor.stride(2) == 1 and tensor.stride(1) == tensor.shape[2]
    return tensor if is_together else tensor.contiguous()


def _places(*tensors: Tensor) -> tuple[int, ...]:
    """Addresses, then distances between tokens."""
    return *(tensor.data_ptr() for tensor in tensors), *(tensor.stride(0) for tensor in tensors)


@functools.cache
def load_kernels() -> Kernels | None:
    """The kernels, compiled if they were not yet; None where they cannot be had."""
    library = build()
    return None if library is None else Kernels(library)


def kernels_for(like: Tensor, head_dim: int) -> Kernels | None:
    """The kernels, if they can compute with tensors such as `like`."""
    usable = like.device.type == "cpu" and like.dtype == torch.bfloat16 and head_dim % HEAD_DIM_MULTIPLE == 0
    return load_kernels() if usable else None
