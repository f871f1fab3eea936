"""What a rank needs to know before it can do its part, and how it meets the others."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from agentrft.cluster.meeting import Meeting, network
from agentrft.learner import Policy
from agentrft.learner.ranks.collective import AllRanks, Collective
from agentrft.models.catalog import ModelSource
from agentrft.models.ready import ready_model


@dataclass(frozen=True)
class RankSetup:
    """Of all ranks of a learner.

    Attributes:
        size: how many they are.
        source, dtype: of the model.
        on_gpus: whether each rank has the GPU of its number; else all compute on the CPU.
        sees_own_gpu: whether each sees a single GPU, its own, as the first.
        lora_rank, lora_experts, seed: see `Policy`. Of all weights each rank keeps a part, of adapters all.
        shards_base: whether of the frozen weights under adapters, too, each rank keeps a part.
        deterministic: see the job's.
        threads: of each rank, on a CPU.
        timeout_s: how long a rank waits for the others.
    """

    size: int
    source: ModelSource
    dtype: torch.dtype
    on_gpus: bool
    lora_rank: int | None
    lora_experts: bool
    seed: int
    deterministic: bool
    threads: int
    timeout_s: float
    shards_base: bool = False
    sees_own_gpu: bool = False

    @property
    def is_sharded(self) -> bool:
        """Whether each rank has a part of the model's weights; it is loaded on the CPU then."""
        return self.lora_rank is None or self.shards_base

    def device(self, rank: int) -> torch.device:
        """What a rank computes on."""
        return torch.device("cuda", 0 if self.sees_own_gpu else rank) if self.on_gpus else torch.device("cpu")

    def meet(self, rank: int, meeting: Meeting) -> AllRanks:
        """Become part of the group of all ranks; waits for them."""
        backend = "cpu:gloo,cuda:nccl" if self.on_gpus else "gloo"
        if self.on_gpus:
            torch.cuda.set_device(self.device(rank))
        with network(meeting):
            store, timeout = meeting.store(self.size, self.timeout_s), timedelta(seconds=self.timeout_s)
            dist.init_process_group(backend, store=store, rank=rank, world_size=self.size, timeout=timeout)
        return AllRanks()

    def make_policy(self, rank: int, meet: Callable[[], AllRanks]) -> tuple[Policy, AllRanks]:
        """A rank's policy, which nothing generates with.

        Args:
            meet: called when the model is loaded.
        """
        model = ready_model(self.source, self.dtype, torch.device("cpu") if self.is_sharded else self.device(rank))
        if self.deterministic:
            torch.use_deterministic_algorithms(True)
        collective = meet()
        return self.policy_of(model, rank, collective), collective

    def policy_of(
        self,
        model: PreTrainedModel,
        rank: int,
        collective: Collective,
        *,
        generates: bool = False,
        engine_device: torch.device | None = None,
    ) -> Policy:
        """A rank's policy.

        Args:
            model: as `ready_model` gives it, on the CPU where it `is_sharded`.
            collective: the ranks, which have met where it `is_sharded`.
            generates, engine_device: see `Policy`.

        Raises:
            UserError: the model is none that can be divided.
        """
        if not self.is_sharded:
            return Policy(
                model,
                lora_rank=self.lora_rank,
                lora_experts=self.lora_experts,
                seed=self.seed,
                engine_device=engine_device,
                generates=generates,
            )
        # Only where they are wanted: they take seconds to import.
        from agentrft.learner.ranks.sharded import ShardedPolicy
        from agentrft.learner.ranks.sharded_base import ShardedBasePolicy

        device = self.device(rank)
        # An engine cannot generate with parts.
        own = (engine_device or device) if generates else None
        if self.lora_rank is None:
            return ShardedPolicy(model, device=device, collective=collective, engine_device=own)
        return ShardedBasePolicy(model, lora_rank=self.lora_rank, seed=self.seed, device=device, engine_device=own)
