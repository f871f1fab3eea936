"""What of the memory a job's rollouts and updates may take, in bytes, in sequences and in tokens."""

import logging

import torch

from agentrft.engine.kv_cache import bytes_per_slot
from agentrft.errors import UserError
from agentrft.learner.tree_forward import ACTIVATION_SHARE
from agentrft.models.architecture import Architecture
from agentrft.models.memory import device_memory, most_tokens_within
from agentrft.spec import JobSpec

logger = logging.getLogger(__name__)

DETERMINISTIC_UNIT = 16
# Of the device's memory, where `engine.kv_cache_mb` is "auto".
KV_CACHE_SHARE = 1 / 4
MB = 1_000_000
# More than any model takes.
MOST_TOKENS = 1 << 24


def slots_within(*, budget: int, slot_bytes: int, least: int, wanted: int) -> int:
    """How many sequences the cache is made for: `wanted`, or as many as the budget in bytes holds.

    Raises:
        UserError: not even `least` fit.
    """
    fitting = budget // slot_bytes
    if fitting < least:
        raise UserError(
            f"engine.kv_cache_mb: {least} rollout(s) at once take {least * slot_bytes / MB:.0f} MB of KV cache, "
            f"and {budget / MB:.0f} MB are allowed.",
            "Lower hyperparameters.max_context_tokens, or raise engine.kv_cache_mb if there is more memory.",
        )
    if fitting < wanted:
        message = "the KV cache of %.0f MB holds %d rollouts at once, not %d (engine.kv_cache_mb)"
        logger.warning(message, budget / MB, fitting, wanted)
    return min(fitting, wanted)


def kv_cache_bytes(spec: JobSpec, device: torch.device) -> int:
    """What all KV caches together may take on the device that generates."""
    given = spec.engine.kv_cache_mb
    return int(KV_CACHE_SHARE * device_memory(device)) if given == "auto" else given * MB


def least_at_once(spec: JobSpec) -> int:
    """How many sequences the engine must hold: a unit of a deterministic job's fixed schedule runs as a whole."""
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
    rank = None if spec.hyperparameters.lora_rank == "full" else 1
    costs = architecture.training_costs(rank, lora_experts=spec.hyperparameters.adapts_experts)
    group = spec.hyperparameters.rollouts_per_sample
    at_once = max(group, least_at_once(spec))
    cached = MOST_TOKENS
    # A server's cache is its own affair.
    if spec.engine.type == "embedded":
        cached = most_tokens_within(
            kv_cache_bytes(spec, engine_device),
            lambda tokens: at_once * bytes_per_slot(architecture.cache_shapes, tokens, itemsize),
            most=MOST_TOKENS,
        )
    # As if they had nothing in common.
    trained = most_tokens_within(
        int(ACTIVATION_SHARE * device_memory(device)),
        lambda tokens: int(costs.recomputed_bytes(group * tokens)),
        most=MOST_TOKENS,
    )
    return min(cached, trained), at_once
