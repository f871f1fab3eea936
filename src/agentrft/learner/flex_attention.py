"""Attention over a tree by PyTorch's FlexAttention: one kernel for all of it, which skips what no token sees.

In the depth-first layout a token's descendants stand right after it: it is seen by itself and by all that follow until
its node's subtree ends. That is the whole mask. The kernel is given which blocks of it are empty, which are full, and
which have to be looked at token by token. It is compiled anew for each length, so that lengths are padded to few.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from agentrft.learner.token_tree import TokenTree

BLOCK = 128
# Of shorter trees the time to compile is more than what the kernel saves.
LEAST_TOKENS = 2048
# Every dtype, head size and power of two is compiled once; beyond torch's own limit it would compute every score.
COMPILED_SHAPES = 64


def is_usable(device: torch.device, dtype: torch.dtype, tokens: int) -> bool:
    """Whether the kernel can be compiled here, and pays; in float32 its blocks are too large for many cards."""
    return device.type == "cuda" and dtype.itemsize == 2 and tokens >= LEAST_TOKENS and find_spec("triton") is not None


class FlexTree:
    """A tree's mask, which all layers share.

    Args:
        kernel: what computes attention; compiled by default.
    """

    def __init__(self, tree: TokenTree, device: torch.device, kernel: Callable[..., Any] | None = None) -> None:
        self._tokens = tree.unique_tokens
        self._padding = padded_length(self._tokens) - self._tokens
        self._mask = block_mask(seen_until(tree, self._tokens + self._padding).to(device))
        self._kernel = kernel or compiled()

    def attend(
        self,
        query: Float[Tensor, "heads tokens dim"],
        key: Float[Tensor, "kv_heads tokens dim"],
        value: Float[Tensor, "kv_heads tokens dim"],
        scaling: float,
    ) -> Float[Tensor, "tokens heads dim"]:
        """Attention of one layer."""
        padded = [self._padded(part) for part in (query, key, value)]
        attended = self._kernel(
            *padded, block_mask=self._mask, scale=scaling, enable_gqa=query.shape[0] != key.shape[0]
        )
        return attended[0, :, : self._tokens].transpose(0, 1)

    def _padded(self, part: Tensor) -> Tensor:
        if self._padding:
            part = torch.nn.functional.pad(part, (0, 0, 0, self._padding))
        return part.contiguous().unsqueeze(0)


def padded_length(tokens: int) -> int:
    """The power of two that holds them: what is added sees itself alone, and costs a block of the mask each."""
    return max(BLOCK, 1 << (tokens - 1).bit_length())


def seen_until(tree: TokenTree, length: int) -> Tensor:
    """[length] for each token the layout's position at which its subtree ends; one after itself for what is added."""
    until = torch.arange(1, length + 1, dtype=torch.int32)
    for segment in tree.segments:
        for start, end in segment.ancestors:
            # Segments come depth-first, so that the last descendant of a node is the last to write.
            until[start:end] = segment.end
        until[segment.start : segment.end] = segment.end
    return until


def block_mask(until: Tensor) -> BlockMask:
    """Which blocks of a tree's mask are full, and which partly, a row of blocks at a time: the whole mask of 32,768
    tokens would take a gigabyte."""
    length = len(until)
    blocks, positions = length // BLOCK, torch.arange(length, device=until.device)
    some, every = [], []
    for start in range(0, length, BLOCK):
        queries = positions[start : start + BLOCK, None]
        seen = ((positions <= queries) & (queries < until)).view(BLOCK, blocks, BLOCK)
        some.append(seen.any(0).any(-1))
        every.append(seen.all(0).all(-1))
    full = torch.stack(every)
    partial = torch.stack(some) & ~full

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < until[key])

    return BlockMask.from_kv_blocks(*_indices(partial), *_indices(full), BLOCK_SIZE=BLOCK, mask_mod=visible)


def _indices(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each row has, and which: [1, 1, rows] and [1, 1, rows, columns]."""
    count = blocks.sum(-1, dtype=torch.int32)
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    return count[None, None], order[None, None]


@cache
def compiled() -> Callable[..., Any]:
    """The kernel, which is compiled for a length when that is first asked for."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, COMPILED_SHAPES)
    return torch.compile(flex_attention, dynamic=False)
