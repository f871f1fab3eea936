"""Attention of single tokens over a paged cache on a GPU, in Triton: keys and values are read once, where they stand.

The context of each sequence is split among programs, so that few sequences fill the card too, and their parts are
merged by their softmaxes' sums (Flash-Decoding: Dao et al. 2023, https://pytorch.org/blog/flash-decoding). The query
heads that share a key-value head are the rows of one product.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int64
from torch import Tensor

# A product has at least so many rows.
LEAST_ROWS = 16
# Programs for each of the card's processors, and pages that are worth one.
PROGRAMS, LEAST_PAGES, MOST_SPLITS = 4, 4, 64
LOG2_E = 1.4426950408889634


def jit(function: Callable[..., None]) -> Any:
    """As Triton's own, with a type."""
    return triton.jit(function)


@jit
def _attend_part(
    query,
    keys,
    values,
    table,
    lengths,
    sums,
    highest_of,
    total_of,
    scale,
    query_stride,
    head_stride,
    page_stride,
    table_stride,
    pages_of_part,
    parts,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
):
    """One part of one sequence's pages for one key-value head: weighted sums of values, and what their weights add up
    to, both relative to the highest score."""
    sequence, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    rows, dims, places = tl.arange(0, ROWS), tl.arange(0, BLOCK), tl.arange(0, PAGE)
    length = tl.load(lengths + sequence)
    first = part * pages_of_part
    last = tl.minimum(first + pages_of_part, tl.cdiv(length, PAGE))
    own = query + sequence * query_stride + (head * GROUP + rows)[:, None] * head_stride + dims[None, :]
    asked = tl.load(own, mask=(rows < GROUP)[:, None] & (dims < DIM)[None, :], other=0.0)
    place = head * PAGE * DIM + places[:, None] * DIM + dims[None, :]
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, BLOCK], tl.float32)
    for number in range(first, last):
        start = tl.load(table + sequence * table_stride + number) * page_stride
        seen = number * PAGE + places < length
        known = seen[:, None] & (dims < DIM)[None, :]
        key = tl.load(keys + start + place, mask=known, other=0.0)
        value = tl.load(values + start + place, mask=known, other=0.0)
        scores = tl.where(seen[None, :], tl.dot(asked, tl.trans(key)) * scale, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(highest - higher)
        total = total * shrunk + tl.sum(weights, 1)
        mixed = mixed * shrunk[:, None] + tl.dot(weights.to(value.dtype), value)
        highest = higher
    row = ((sequence * tl.num_programs(1) + head) * GROUP + rows) * parts + part
    tl.store(highest_of + row, highest, mask=rows < GROUP)
    tl.store(total_of + row, total, mask=rows < GROUP)
    tl.store(sums + row[:, None] * DIM + dims[None, :], mixed, mask=(rows < GROUP)[:, None] & (dims < DIM)[None, :])


@jit
def _merge(sums, highest_of, total_of, out, parts, PARTS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """The parts of one query head to its result."""
    row, part, dims = tl.program_id(0), tl.arange(0, PARTS), tl.arange(0, BLOCK)
    highest = tl.load(highest_of + row * parts + part, mask=part < parts, other=float("-inf"))
    factor = tl.exp2(highest - tl.max(highest, 0))
    total = tl.sum(tl.load(total_of + row * parts + part, mask=part < parts, other=0.0) * factor, 0)
    place = (row * parts + part)[:, None] * DIM + dims[None, :]
    mixed = tl.load(sums + place, mask=(part < parts)[:, None] & (dims < DIM)[None, :], other=0.0)
    merged = tl.sum(mixed * factor[:, None], 0) / total
    tl.store(out + row * DIM + dims, merged.to(out.dtype.element_ty), mask=dims < DIM)


def attend_paged(
    query: Float[Tensor, "sequences heads head_dim"],
    keys: Float[Tensor, "pages kv_heads page_tokens head_dim"],
    values: Float[Tensor, "pages kv_heads page_tokens head_dim"],
    table: Int64[Tensor, "sequences most_pages"],
    lengths: Int64[Tensor, "sequences"],
    scaling: float,
) -> Float[Tensor, "sequences heads head_dim"]:
    """Attention of one token of each sequence over its first `lengths` keys; its pages are its row of `table`.

    Keys and values are dense within a page, with the same distance between pages.
    """
    (sequences, heads, head_dim), (_, kv_heads, page_tokens, _) = query.shape, keys.shape
    if query.stride(2) != 1:
        query = query.contiguous()
    group, block = heads // kv_heads, triton.next_power_of_2(head_dim)
    parts, pages_of_part = split(table.shape[1], sequences * kv_heads, _processors(query.device))
    sums = torch.empty(sequences, heads, parts, head_dim, dtype=torch.float32, device=query.device)
    highest, total = (torch.empty(sequences, heads, parts, dtype=torch.float32, device=query.device) for _ in range(2))
    out = query.new_empty(sequences, heads, head_dim)
    _attend_part[sequences, kv_heads, parts](
        query,
        keys,
        values,
        table,
        lengths,
        sums,
        highest,
        total,
        scaling * LOG2_E,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        table.stride(0),
        pages_of_part,
        parts,
        GROUP=group,
        ROWS=max(LEAST_ROWS, triton.next_power_of_2(group)),
        DIM=head_dim,
        BLOCK=block,
        PAGE=page_tokens,
        num_warps=4,
        num_stages=3 if head_dim <= 128 else 2,
    )
    _merge[(sequences * heads,)](
        sums, highest, total, out, parts, PARTS=triton.next_power_of_2(parts), DIM=head_dim, BLOCK=block
    )
    return out


def split(pages: int, rows: int, processors: int) -> tuple[int, int]:
    """Into how many parts a context of so many pages is split, and how many pages each has.

    Args:
        rows: sequences times key-value heads, which are computed at once in any case.
        processors: of the card.
    """
    wanted = min(-(-PROGRAMS * processors // rows), -(-pages // LEAST_PAGES), MOST_SPLITS)
    of_part = -(-pages // max(1, wanted))
    return -(-pages // of_part), of_part


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
