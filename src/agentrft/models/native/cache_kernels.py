"""The compiled operators on a paged cache of keys and values: what writes it, and what attends over it in place.

A cache is [pages, kv_heads, page_tokens, head_dim], dense within a page, with any distance between pages; the keys and
the values of a layer have the same. Which pages a sequence has, and in which order, its row of a page table says.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agentrft.models.native.kernels import HEAD_DIM_MULTIPLE, Kernels, heads_together, load_kernels

# What head_dim must be a multiple of, for attention in these types.
_MULTIPLES = {torch.bfloat16: HEAD_DIM_MULTIPLE, torch.float32: 8}


class CacheKernels:
    """The kernels for caches of one type and shape.

    Attributes:
        attends: whether they attend; in any case they store and gather.
        attends_chunks: whether they attend to several new tokens of a sequence at once.
        bfloat16: those for other tensors of this kind, if there are any.
    """

    def __init__(self, kernels: Kernels, keys: Tensor, values: Tensor) -> None:
        multiple = _MULTIPLES.get(keys.dtype)
        self.attends = multiple is not None and keys.shape[3] == values.shape[3] and keys.shape[3] % multiple == 0
        self.bfloat16 = kernels if self.attends and keys.dtype == torch.bfloat16 else None
        self.attends_chunks = self.bfloat16 is not None and kernels.has_dot
        self._library = kernels.library
        self._attend = self._library.attend_bf16 if keys.dtype == torch.bfloat16 else self._library.attend_float

    def store(
        self,
        key: Float[Tensor, "tokens kv_heads key_dim"],
        value: Float[Tensor, "tokens kv_heads value_dim"],
        keys: Float[Tensor, "pages kv_heads page_tokens key_dim"],
        values: Float[Tensor, "pages kv_heads page_tokens value_dim"],
        pages: Int64[Tensor, "tokens"],
        places: Int64[Tensor, "tokens"],
    ) -> None:
        """Write the keys and values of new tokens into their pages, at their places there."""
        key, value = heads_together(key), heads_together(value)
        size = keys.dtype.itemsize
        _, kv_heads, page_tokens, key_dim = keys.shape
        self._library.store(
            key.data_ptr(),
            value.data_ptr(),
            key.stride(0) * size,
            value.stride(0) * size,
            keys.data_ptr(),
            values.data_ptr(),
            keys.stride(0) * size,
            pages.data_ptr(),
            places.data_ptr(),
            len(key),
            kv_heads,
            page_tokens,
            key_dim * size,
            values.shape[3] * size,
        )

    def gather(
        self, cache: Float[Tensor, "pages kv_heads page_tokens head_dim"], pages: Int64[Tensor, "own"]
    ) -> Float[Tensor, "kv_heads tokens head_dim"]:
        """A copy of one sequence's pages, end to end."""
        _, kv_heads, page_tokens, head_dim = cache.shape
        size = cache.dtype.itemsize
        out = cache.new_empty(kv_heads, len(pages) * page_tokens, head_dim)
        block = page_tokens * head_dim * size
        places = cache.data_ptr(), cache.stride(0) * size, pages.data_ptr()
        self._library.gather(*places, len(pages), kv_heads, block, out.data_ptr())
        return out

    def attend(
        self,
        query: Float[Tensor, "sequences heads head_dim"],
        keys: Float[Tensor, "pages kv_heads page_tokens head_dim"],
        values: Float[Tensor, "pages kv_heads page_tokens head_dim"],
        table: Int64[Tensor, "sequences most_pages"],
        lengths: Int64[Tensor, "sequences"],
        scaling: float,
    ) -> Float[Tensor, "sequences heads head_dim"]:
        """Attention of one token of each sequence over its first `lengths` keys. Only where it `attends`."""
        query = heads_together(query)
        sequences, heads, _ = query.shape
        _, kv_heads, page_tokens, head_dim = keys.shape
        out = query.new_empty(query.shape)
        self._attend(
            query.data_ptr(),
            query.stride(0),
            keys.data_ptr(),
            values.data_ptr(),
            keys.stride(0),
            table.data_ptr(),
            table.stride(0),
            lengths.data_ptr(),
            out.data_ptr(),
            sequences,
            heads,
            kv_heads,
            page_tokens,
            head_dim,
            scaling,
        )
        return out

    def attend_chunks(
        self,
        query: Float[Tensor, "tokens heads head_dim"],
        keys: Float[Tensor, "pages kv_heads page_tokens head_dim"],
        values: Float[Tensor, "pages kv_heads page_tokens head_dim"],
        table: Int64[Tensor, "chunks most_pages"],
        chunks: Int64[Tensor, "3 chunks"],
        scaling: float,
        out: Float[Tensor, "tokens heads head_dim"],
    ) -> None:
        """Causal attention of consecutive new tokens of some sequences, which are stored already, into `out`.

        Only where it `attends_chunks`.

        Args:
            chunks: of each chunk the first row of `query` and `out`, the number of tokens, and the position of the
                first one in its sequence.
            out: contiguous; rows that belong to no chunk are left alone.
        """
        query, heads = heads_together(query), query.shape[1]
        _, kv_heads, page_tokens, head_dim = keys.shape
        fields = (field.data_ptr() for field in chunks)
        self._library.attend_chunks(
            query.data_ptr(),
            query.stride(0),
            keys.data_ptr(),
            values.data_ptr(),
            keys.stride(0),
            table.data_ptr(),
            table.stride(0),
            *fields,
            out.data_ptr(),
            chunks.shape[1],
            heads,
            kv_heads,
            page_tokens,
            head_dim,
            scaling,
        )


def cache_kernels_for(keys: Tensor, values: Tensor) -> CacheKernels | None:
    """The kernels for a layer's cache; None where there are none."""
    kernels = load_kernels() if keys.device.type == "cpu" else None
    return None if kernels is None else CacheKernels(kernels, keys, values)
