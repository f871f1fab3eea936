"""What attends to single tokens over a layer's paged cache in place, if anything can: a compiled or a Triton kernel."""

import functools
import importlib.util
import logging
import subprocess
from typing import Protocol

import torch
from torch import Tensor

from agentrft.models.native import CacheKernels

logger = logging.getLogger(__name__)

_TYPES = (torch.bfloat16, torch.float16)
_PROBE_PAGES, _PROBE_PAGE_TOKENS = 3, 64


class DecodeAttention(Protocol):
    """See `CacheKernels.attend`."""

    def __call__(
        self, query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scaling: float
    ) -> Tensor: ...


def decode_for(keys: Tensor, values: Tensor, heads: int, kernels: CacheKernels | None) -> DecodeAttention | None:
    """What attends over these, or None where pages have to be gathered for it.

    Args:
        keys, values: [pages, kv_heads, page_tokens, head_dim], with the same distance between pages.
        heads: of queries.
        kernels: those for this cache.
    """
    if kernels is not None:
        return kernels.attend if kernels.attends else None
    if keys.device.type != "cuda" or keys.dtype not in _TYPES or keys.shape != values.shape:
        return None
    return _in_triton(keys.device, keys.dtype, heads // keys.shape[1], keys.shape[3])


@functools.cache
def _in_triton(device: torch.device, dtype: torch.dtype, group: int, head_dim: int) -> DecodeAttention | None:
    """The Triton kernel, if it can be compiled here and gives what products give."""
    if importlib.util.find_spec("triton") is None:
        logger.info("no Triton: generation on %s gathers keys and values at each step, which is slower", device)
        return None
    source = torch.Generator(device).manual_seed(0)
    shape = (_PROBE_PAGES, 1, _PROBE_PAGE_TOKENS, head_dim)
    keys, values = (torch.randn(shape, generator=source, device=device).to(dtype) for _ in range(2))
    query = torch.randn(1, group, head_dim, generator=source, device=device).to(dtype)
    length, scaling = (_PROBE_PAGES - 1) * _PROBE_PAGE_TOKENS + 3, head_dim**-0.5
    table = torch.arange(_PROBE_PAGES, device=device).unsqueeze(0)
    key, value = (part.float().view(-1, head_dim)[:length] for part in (keys, values))
    expected = (query[0].float() @ key.T * scaling).softmax(dim=-1) @ value
    try:
        from agentrft.models.paged_decode import attend_paged

        found = attend_paged(query, keys, values, table, torch.tensor([length], device=device), scaling)
    except (ImportError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        logger.warning("Triton computes nothing on %s, so that generation is slower: %s", device, error)
        return None
    if not torch.allclose(found[0].float(), expected, rtol=0.05, atol=0.02):
        logger.warning("Triton computes other numbers on %s, so that generation goes without it", device)
        return None
    return attend_paged
