"""Sizes of the embedded engine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLimits:
    """See `EngineSpec`; `max_context_tokens` bounds each sequence.

    `cache_pages` is how many pages of keys and values all of them have together; None for as many as they need at their
    longest. In deterministic mode that is how many there must be, and there are no CUDA graphs.
    """

    max_context_tokens: int
    max_sequences: int = 64
    max_batch_size: int = 64
    prefill_tokens_per_step: int = 2048
    cache_pages: int | None = None
    cuda_graphs: bool = True
