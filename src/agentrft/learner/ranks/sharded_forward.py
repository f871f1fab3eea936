"""A pass through a model of which each rank has a part of every weight, by PyTorch's FSDP2 (`fully_shard`)."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from agentrft.models.attention import ContextPlan
from agentrft.models.forward import TransformersForward
from agentrft.models.planned import text_decoder


class _Pass(nn.Module):
    """What PyTorch takes for the root of a sharded model: the trunk of a pass, whatever enters it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, trunk: Callable[..., Tensor], *arguments: Any) -> Tensor:
        return trunk(*arguments)


class ShardedForward(TransformersForward):
    """A pass that gathers what it needs, layer by layer. The head follows the trunk of the same pass.

    Args:
        model: the same on every rank. It may be on the CPU: each layer goes to `device` alone, and stays there in part.
        device: what this rank computes on.
        whole: weights that each rank keeps whole, on that device.
        in_float32: whether the parts are kept in float32; they are gathered in the model's own data type anyway.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, *, whole: Collection[nn.Parameter] = (), in_float32: bool
    ) -> None:
        super().__init__(model)
        self.count_routing()
        # Both are seen in passes over whole weights.
        self._measured = self.cache_shapes, self.costs
        self.device = device
        rounding = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        shard = partial(fully_shard, mesh=_mesh(device), mp_policy=rounding, ignored_params=set(whole))
        for module in list(text_decoder(self._plain).modules()):
            if isinstance(module, GradientCheckpointingLayer):
                shard(module.float() if in_float32 else module)
        self._root = _Pass(self._plain)
        shard(self._root.float() if in_float32 else self._root)
        for module in self._root.modules():
            if isinstance(module, FSDPModule):
                # The sum over ranks: losses are shares of the whole minibatch's.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def let_go(self) -> None:
        """Forget what the last pass gathered."""
        for module in self._root.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def trunk(
        self, token_ids: Tensor, position_ids: Tensor, keep: Tensor, plan: ContextPlan, *, recompute: bool = False
    ) -> Tensor:
        """See `Forward`."""
        return self._root(partial(super().trunk, recompute=recompute), token_ids, position_ids, keep, plan)

    def write(self, name: str, weight: Tensor) -> None:
        """See `Forward`."""
        raise RuntimeError("a sharded model is changed through its masters")


def _mesh(device: torch.device) -> Any:
    return init_device_mesh(device.type, (torch.distributed.get_world_size(),))
