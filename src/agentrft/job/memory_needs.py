"""What a model's rollouts and updates take of a device's memory, from its architecture alone."""

from dataclasses import dataclass

import torch

from agentrft.engine.kv_cache import bytes_per_slot
from agentrft.job.memory_budget import KV_CACHE_SHARE
from agentrft.job.training_state import TrainingState
from agentrft.learner.optimizer import CPU_TOKENS_PER_PASS, TOKENS_PER_PASS
from agentrft.learner.tree_forward import ACTIVATION_SHARE, HEAD_ROWS
from agentrft.models.architecture import Architecture
from agentrft.models.costs import PassCosts
from agentrft.models.layouts import MEMORY_SHARE

# A pass's logits, their gradient, and what it is made from.
LOGITS_AT_ONCE = 3


@dataclass(frozen=True)
class MemoryNeeds:
    """In bytes.

    Attributes:
        state: what training keeps of each trained number.
        weights: of the model, and of what the engine generates with.
        trained: masters, gradients and the optimizer's; of adapters with their weights.
        rollout: of one rollout at the longest context.
        rollouts_at_once: at the longest context, as many as wanted, or as the share of the memory for them holds. More
            run where they are shorter.
        pass_tokens: of one pass of an update, or of a warm start.
        update: of such a pass.
        recomputes: whether it computes its layers again in the backward pass, to take less.
        memory: what the device has.
    """

    state: TrainingState
    weights: int
    trained: int
    rollout: int
    rollouts_at_once: int
    pass_tokens: int
    update: int
    recomputes: bool
    memory: int

    @property
    def total(self) -> int:
        """Of a job."""
        return self.weights + self.trained + self.rollouts_at_once * self.rollout + self.update

    @property
    def fits(self) -> bool:
        return self.rollouts_at_once > 0 and self.total <= self.memory


def memory_needs(
    architecture: Architecture,
    *,
    memory: int,
    on_cpu: bool,
    context_tokens: int,
    rollouts: int,
    lora_rank: int | None,
    lora_experts: bool = True,
    pass_tokens: int | None = None,
) -> MemoryNeeds:
    """What a job takes.

    Args:
        memory: of the device, in bytes.
        context_tokens: the longest rollout.
        rollouts: at once, if the memory holds them.
        lora_rank: None trains all weights.
        lora_experts: whether experts get adapters.
        pass_tokens: unique tokens of an update's pass; None for as many as are computed together.
    """
    costs = architecture.training_costs(lora_rank, lora_experts=lora_experts)
    weights = architecture.parameters * costs.itemsize
    # The engine's are merged with the adapter, so that they are others than those that it is trained on.
    held = 2 * weights
    if on_cpu and architecture.path == "fast" and weights <= MEMORY_SHARE * memory:
        held += weights  # laid out for the processor
    state = TrainingState.of(
        architecture.trained_parameters(lora_rank, lora_experts=lora_experts),
        torch.bfloat16 if costs.itemsize == torch.bfloat16.itemsize else torch.float32,
        all_weights=lora_rank is None,
    )
    slot = bytes_per_slot(architecture.cache_shapes, context_tokens, costs.itemsize)
    tokens = pass_tokens or (CPU_TOKENS_PER_PASS if on_cpu else TOKENS_PER_PASS)
    update, recomputes = pass_bytes(costs, tokens, memory=memory)
    return MemoryNeeds(
        state=state,
        weights=held,
        trained=state.beside_weights + (0 if state.all_weights else state.weights),
        rollout=slot,
        rollouts_at_once=min(rollouts, int(KV_CACHE_SHARE * memory) // slot),
        pass_tokens=tokens,
        update=update,
        recomputes=recomputes,
        memory=memory,
    )


def pass_bytes(costs: PassCosts, tokens: int, *, memory: int) -> tuple[int, bool]:
    """What an update's pass over so many unique tokens takes at its peak, in bytes; and whether it computes its layers
    again in the backward pass, to take less.

    Args:
        memory: of the device, in bytes.
    """
    kept = costs.kept_bytes(tokens)
    recomputes = kept > ACTIVATION_SHARE * memory
    if recomputes:
        kept = costs.recomputed_bytes(tokens)
    logits = LOGITS_AT_ONCE * min(HEAD_ROWS, tokens) * costs.vocabulary * costs.itemsize
    return int(kept) + logits, recomputes
