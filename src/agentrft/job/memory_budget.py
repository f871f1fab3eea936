"""What of the memory a job's rollouts and updates may take, in bytes, in sequences and in tokens."""

import logging

import torch

from agentrft.engine.kv_cache import CacheSize, bytes_per_slot, cache_within
from agentrft.engine.pages import PAGE_TOKENS, pages_of
from agentrft.errors import UserError
from agentrft.learner.tree_forward import ACTIVATION_SHARE
from agentrft.models.architecture import Architecture
from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.memory import device_memory, most_tokens_within
from agentrft.spec import JobSpec

logger = logging.getLogger(__name__)

DETERMINISTIC_UNIT = 16
# Of the device's memory, where `engine.kv_cache_mb` is "auto".
KV_CACHE_SHARE = 1 / 4
MB = 1_000_000
# More than any model takes.
MOST_TOKENS = 1 << 24


def cache_for(
    shapes: CacheShapes, *, budget: int, max_tokens: int, itemsize: int, least: int, wanted: int, in_full: bool
) -> CacheSize:
    """How many sequences and pages the cache is made for: as many as the budget in bytes holds of what is wanted.

    Args:
        max_tokens: of one sequence.
        least: sequences that must fit at their longest.
        in_full: only as many sequences as fit at their longest.

    Raises:
        UserError: not even `least` fit.
    """
    slot = bytes_per_slot(shapes, max_tokens, itemsize)
    if least * slot > budget:
        raise UserError(
            f"engine.kv_cache_mb: {least} rollout(s) at once take {least * slot / MB:.0f} MB of KV cache, "
            f"and {budget / MB:.0f} MB are allowed.",
            "Lower hyperparameters.max_context_tokens, or raise engine.kv_cache_mb if there is more memory.",
        )
    size = cache_within(shapes, budget=budget, max_tokens=max_tokens, itemsize=itemsize, wanted=wanted, in_full=in_full)
    if size.sequences < wanted:
        message = "the KV cache of %.0f MB holds %d rollouts at once, not %d (engine.kv_cache_mb)"
        logger.warning(message, budget / MB, size.sequences, wanted)
    if size.pages < size.sequences * pages_of(max_tokens):
        message = "the KV cache holds %d tokens of %d rollouts at once, of which each may have %d (engine.kv_cache_mb)"
        logger.info(message, size.pages * PAGE_TOKENS, size.sequences, max_tokens)
    return size


def kv_cache_bytes(spec: JobSpec, device: torch.device) -> int:
    """What all KV caches together may take on the device that generates."""
    given = spec.engine.kv_cache_mb
    return int(KV_CACHE_SHARE * device_memory(device)) if given == "auto" else given * MB


def least_at_once(spec: JobSpec) -> int:
    """How many sequences must fit at their longest: a unit of a deterministic job's schedule runs as a whole."""
    return max(spec.hyperparameters.rollouts_per_sample, DETERMINISTIC_UNIT) if spec.deterministic else 1


def tokens_in_memory(
    spec: JobSpec,
    architecture: Architecture,
    itemsize: int,
    *,
    engine_device: torch.device,
    device: torch.device,
) -> tuple[int, int]:
    """The longest sequence of which a group's rollouts fit, all at once, into the KV cache and into an update; and how
    many these are.
    """
    cache = kv_cache_bytes(spec, engine_device) if spec.engine.type == "embedded" else None
    return tokens_within(spec, architecture, itemsize, cache=cache, memory=device_memory(device))


def tokens_within(
    spec: JobSpec, architecture: Architecture, itemsize: int, *, cache: int | None, memory: int
) -> tuple[int, int]:
    """`tokens_in_memory` of devices that are given by what they have.

    Args:
        cache: bytes for the KV cache; None where it is a server's own affair.
        memory: of the device that trains, in bytes.
    """
    rank = None if spec.hyperparameters.lora_rank == "full" else 1
    costs = architecture.training_costs(rank, lora_experts=spec.hyperparameters.adapts_experts)
    group = spec.hyperparameters.rollouts_per_sample
    at_once = max(group, least_at_once(spec))
    cached = MOST_TOKENS
    if cache is not None:
        cached = most_tokens_within(
            cache,
            lambda tokens: at_once * bytes_per_slot(architecture.cache_shapes, tokens, itemsize),
            most=MOST_TOKENS,
        )
    # As if they had nothing in common.
    trained = most_tokens_within(
        int(ACTIVATION_SHARE * memory),
        lambda tokens: int(costs.recomputed_bytes(group * tokens)),
        most=MOST_TOKENS,
    )
    return min(cached, trained), at_once
