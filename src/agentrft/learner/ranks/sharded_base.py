"""Adapters that are whole on every rank, on a frozen model of which each has a part: for one that no GPU holds alone.

The adapters' gradients are added up as elsewhere. The frozen weights are gathered layer by layer, forward and backward,
and each layer is computed with its adapter beside it, by transformers' modules: `PackedModel` would need the merged
weights of all layers at once.
"""

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from agentrft.errors import UserError
from agentrft.learner.policy import Policy
from agentrft.learner.ranks.sharded_forward import ShardedForward
from agentrft.models.experts import has_experts
from agentrft.models.forward import Forward


class ShardedBasePolicy(Policy):
    """A policy of adapters whose frozen weights are in parts on the ranks of torch.distributed's default group.

    `write_to` gathers these, on the rank that wants it, while the others `help_gather`.

    Args:
        model: with planned attention, the same on every rank. It may be on the CPU: each layer goes to `device` alone,
            and stays there in part.
        lora_rank, seed: see `Policy`.
        device: what this rank computes on.
        engine_device: where an engine in this process gets a whole copy of its own; None makes none.

    Raises:
        UserError: the model has experts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        lora_rank: int,
        seed: int,
        device: torch.device,
        engine_device: torch.device | None = None,
    ) -> None:
        if has_experts(model):
            raise UserError(
                "cluster.shard_base: a mixture of experts is not divided over ranks while adapters are trained.",
                "Leave it out.",
            )
        self._device = device
        super().__init__(
            model,
            lora_rank=lora_rank,
            seed=seed,
            engine_device=engine_device,
            generates=engine_device is not None,
        )

    @property
    def is_sharded(self) -> bool:
        """See `Policy`."""
        return True

    def help_gather(self) -> None:
        """See `Policy`."""
        with torch.no_grad():
            for _, layer in self._adapted_layers():
                self._frozen(layer)

    def _place_adapters(self) -> None:
        for parameter in self._trainable.values():
            parameter.data = parameter.data.to(self._device)

    def _modules_forward(self) -> Forward:
        self._sharded = ShardedForward(self.model, self._device, whole=list(self._trainable.values()), in_float32=False)
        return self._sharded

    def _write_merged(self, target: Forward) -> None:
        with self.followers.helping_to_gather():
            super()._write_merged(target)

    def _frozen(self, layer: LoraLayer) -> Tensor:
        self._sharded.let_go()
        weight = super()._frozen(layer)
        if not isinstance(weight, DTensor):
            raise RuntimeError("a frozen weight was left whole")
        return weight.full_tensor()
