"""All weights, trained in shards: FSDP2 of PyTorch (`fully_shard`; Zhao et al. 2023, arXiv:2304.11277).

Each rank keeps a part of every weight in float32, its gradient and its moments: these are the masters. A layer's
weights are gathered in the model's own data type when it is computed, forward and backward, and let go after it; its
gradients are summed over the ranks in float32, each rank keeping its part. Embeddings, the last norm and the head are
gathered for a whole pass.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from agentrft.errors import UserError
from agentrft.learner.policy import Nobody, Policy, gradient_of
from agentrft.learner.ranks.collective import Collective
from agentrft.learner.ranks.sharded_forward import ShardedForward
from agentrft.models.forward import Forward, forward_of


class ShardedPolicy(Policy):
    """A policy of all weights, of which each rank of torch.distributed's default group has a part.

    What gathers whole weights is done by all ranks together: `master_state`, `whole`, `write_to` and `saved_weights`
    on the rank that wants them, and `help_gather` on the others.

    Args:
        model: with planned attention, the same on every rank. It may be on the CPU: each layer goes to `device` alone,
            and stays there in part.
        device: what this rank computes on.
        collective: the ranks.
        engine_device: where an engine in this process gets a copy of its own; None makes none.

    Raises:
        UserError: the model's weights are of several data types.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        device: torch.device,
        collective: Collective,
        engine_device: torch.device | None = None,
    ) -> None:
        self.lora_rank = None
        self.version = 0
        self.most_tokens = None
        self.model = model
        self.followers = Nobody()
        self._collective = collective
        dtypes = {parameter.dtype for parameter in model.parameters()}
        if len(dtypes) > 1:
            raise UserError(
                f"cluster.learner_workers: this model's weights are of {len(dtypes)} data types, and such weights are "
                "not trained in shards.",
                "Train adapters, or with one learner.",
            )
        model.requires_grad_(True)
        model.eval()
        engine: Forward | None = None
        if engine_device is not None:
            own = copy.deepcopy(model).requires_grad_(False)
            own.to(device=engine_device)  # pyright: ignore[reportCallIssue]  # as in Runtime
            engine = forward_of(own)
        # A tied weight has several names; what is saved has them all, and what is no weight as well.
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._names = {name: names[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
        self._others = {name: value.clone() for name, value in model.state_dict().items() if name not in self._names}
        self._sharded = ShardedForward(model, device, in_float32=True)
        self.forward: Forward = self._sharded
        self.engine_forward: Forward = engine or self.forward
        self._weights = {name: _sharded(parameter) for name, parameter in model.named_parameters()}
        self._masters = {name: weight.to_local().detach() for name, weight in self._weights.items()}
        for name, master in self._masters.items():
            weight = self._weights[name]
            # One buffer with two names: what backward adds to, and what the optimizer reads and zeroes.
            master.grad = torch.zeros_like(master)
            weight.grad = _whole_of(weight, master.grad)

    @property
    def is_sharded(self) -> bool:
        """See `Policy`."""
        return True

    def add_up_gradients(self, collective: Collective) -> Tensor:
        """See `Policy`: backward has added them up already; their norm is over all ranks' parts."""
        gradients = [gradient_of(master) for master in self.masters]
        own = torch.stack([torch.linalg.vector_norm(one) for one in gradients]).square().sum()
        (total,) = collective.total(float(own))
        return torch.tensor(total, device=own.device).sqrt().to(own.dtype)

    def publish_masters(self) -> None:
        """See `Policy`: a pass rounds them when it gathers them; what was gathered before is let go."""
        self._sharded.let_go()

    def master_state(self) -> dict[str, Tensor]:
        """See `Policy`; on all ranks but the first, empty tensors."""
        with self.followers.helping_to_gather():
            return {name: self._on_first(weight) for name, weight in self._weights.items()}

    def help_gather(self) -> None:
        """Give another rank this one's parts of all masters."""
        for _ in self._gathered():
            pass

    def whole(self, place: int, part: Tensor) -> Tensor:
        """See `Policy`; empty on all ranks but the first."""
        return self._on_first(_whole_of(list(self._weights.values())[place], part))

    def own_part(self, whole: Tensor) -> Tensor:
        """See `Policy`: of equal numbers of rows, the last ranks having fewer or none."""
        parts = whole.chunk(self._collective.size)
        rank = self._collective.rank
        return parts[rank] if rank < len(parts) else whole[:0]

    def saved_weights(self) -> dict[str, Tensor]:
        """The model's whole weights on the CPU, in its own data type, by the names of its `state_dict`."""
        with self.followers.helping_to_gather():
            gathered = {name: weight.to("cpu", self.forward.dtype) for name, weight in self._gathered()}
        return {name: gathered[own] for name, own in self._names.items()} | self._others

    @torch.no_grad()
    def _write_merged(self, target: Forward) -> None:
        with self.followers.helping_to_gather():
            for name, weight in self._gathered():
                target.write(name, weight)

    def _gathered(self) -> Iterator[tuple[str, Tensor]]:
        """One whole weight after another, in float32."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                yield name, weight.full_tensor()

    def _on_first(self, weight: DTensor) -> Tensor:
        with torch.no_grad():
            whole = weight.full_tensor()
        return whole.detach().to("cpu", copy=True) if self._collective.rank == 0 else torch.empty(0)


def _sharded(parameter: nn.Parameter) -> DTensor:
    if not isinstance(parameter, DTensor):
        raise RuntimeError("a weight was left whole")
    return parameter


def _whole_of(weight: DTensor, part: Tensor) -> DTensor:
    """A tensor that is laid out over ranks as a weight, of which this rank has `part`."""
    return DTensor.from_local(
        part, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
