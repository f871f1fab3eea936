"""What the engine and the learner run: packed tokens in, logits out, by one of two ways of computing a model."""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, cast

import torch
from peft import PeftModel
from torch import Tensor, device, dtype, nn
from transformers import PretrainedConfig, PreTrainedModel

from agentrft.models.attention import ContextPlan
from agentrft.models.cache_shapes import CacheShapes, ShapesPlan, probe_tokens
from agentrft.models.costs import PassCosts, modules_costs
from agentrft.models.experts import expert_weights, has_expert_adapters, largest_layer, without_expert_adapters
from agentrft.models.lora import LoraAdapter
from agentrft.models.packed import PackedModel
from agentrft.models.planned import PlannedModel, text_config, text_decoder
from agentrft.models.routing import RouterCounts, RouterStatistics

# Of passes that show shapes, and what a pass keeps: as many as recurrent layers compute at once.
PROBE_TOKENS, COSTS_TOKENS = 2, 64


class Forward(Protocol):
    """A model over packed tokens.

    Attributes:
        config: of its text part.
        dtype, device: of its weights.
    """

    config: PretrainedConfig
    dtype: dtype
    device: device

    @property
    def cache_shapes(self) -> CacheShapes:
        """What an engine keeps of a sequence."""
        ...

    @property
    def costs(self) -> PassCosts:
        """What a pass costs for each token."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether a pass of given shapes runs the same kernels whatever its numbers are, and never waits for one."""
        ...

    def trunk(
        self, token_ids: Tensor, position_ids: Tensor, keep: Tensor, plan: ContextPlan, *, recompute: bool = False
    ) -> Tensor:
        """One pass up to what `head` takes.

        Args:
            token_ids, position_ids: [tokens], sequences end to end.
            keep: [kept] positions in the packed tokens to compute logits at.
            plan: which keys each token sees.
            recompute: keep only each layer's input for the backward pass, and compute the rest again there.

        Returns:
            [kept, anything].
        """
        ...

    def head(self, rows: Tensor) -> Tensor:
        """Rows of `trunk` to logits [rows, vocabulary]."""
        ...

    def __call__(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        keep: Tensor,
        plan: ContextPlan,
        adapters: Sequence[LoraAdapter | None] | None = None,
    ) -> Tensor:
        """Logits [kept, vocabulary]: `head` of `trunk`.

        Args:
            adapters: each token's, without gradient, from `PackedModel.lora` of this model; None for a token of the
                model as it is.
        """
        ...

    def write(self, name: str, weight: Tensor) -> None:
        """Replace a weight by the name that it has in transformers' model."""
        ...

    def take_routing(self) -> RouterStatistics:
        """Which experts tokens were routed to in passes with gradient since the last call."""
        ...


class TransformersForward:
    """Any model of transformers with planned attention (`use_planned_attention`), adapters of PEFT included."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._plain = cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
        self.config: PretrainedConfig = text_config(self._plain)
        self._routing: RouterCounts | None = None
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device

    @cached_property
    def _planned(self) -> PlannedModel:
        return PlannedModel(self._plain)

    def count_routing(self) -> None:
        """Count from now on what `take_routing` tells."""
        self._routing = RouterCounts(text_decoder(self._plain))

    def take_routing(self) -> RouterStatistics:
        """See `Forward`."""
        return RouterStatistics() if self._routing is None else self._routing.take()

    @property
    def cache_shapes(self) -> CacheShapes:
        """See `Forward`."""
        return self._shapes

    @cached_property
    def _shapes(self) -> CacheShapes:
        plan = ShapesPlan()
        with torch.no_grad(), without_expert_adapters(self._plain):
            self._planned.hidden_states(*probe_tokens(PROBE_TOKENS, self.device), plan)
        return plan.seen()

    @property
    def costs(self) -> PassCosts:
        """See `Forward`. What a pass keeps is seen in one over a few tokens."""
        return self._costs

    @cached_property
    def _costs(self) -> PassCosts:
        merged = expert_weights(self._plain) if has_expert_adapters(self._plain) else {}
        return modules_costs(
            text_decoder(self._plain),
            self.config,
            self.cache_shapes,
            activation_bytes=self._kept_bytes() / COSTS_TOKENS,
            pass_bytes=sum(weight.nbytes for weight in merged.values()),
            largest_pass_bytes=largest_layer(merged) * self.dtype.itemsize,
            itemsize=self.dtype.itemsize,
        )

    @property
    def replayable(self) -> bool:
        """See `Forward`: nobody knows what a module does."""
        return False

    def _kept_bytes(self) -> int:
        """For the backward pass of one over `COSTS_TOKENS`, the weights aside."""
        weights = {parameter.untyped_storage()._cdata for parameter in self._plain.parameters()}
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        # Merged experts would all be kept at once, where a pass that is too large computes one layer after the other.
        unmerged = without_expert_adapters(self._plain)
        with unmerged, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            # Held until all is counted, so that no storage stands where another one was.
            output = self._planned.hidden_states(*probe_tokens(COSTS_TOKENS, self.device), ShapesPlan())
        del output
        return sum(kept.values())

    def __call__(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        keep: Tensor,
        plan: ContextPlan,
        adapters: Sequence[LoraAdapter | None] | None = None,
    ) -> Tensor:
        """See `Forward`."""
        if adapters is not None:
            raise ValueError(f"a model of type '{self.config.model_type}' computes no adapters beside each other")
        return self.head(self.trunk(token_ids, position_ids, keep, plan))

    def head(self, rows: Tensor) -> Tensor:
        """See `Forward`."""
        return self._planned.logits(rows)

    def trunk(
        self, token_ids: Tensor, position_ids: Tensor, keep: Tensor, plan: ContextPlan, *, recompute: bool = False
    ) -> Tensor:
        """See `Forward`."""
        return self._planned.hidden_states(token_ids, position_ids, plan, recompute=recompute)[keep]

    def write(self, name: str, weight: Tensor) -> None:
        """See `Forward`."""
        self._model.get_parameter(name).data.copy_(weight)


def forward_of(model: PreTrainedModel) -> Forward:
    """The fastest way to compute a model that has no adapters."""
    return PackedModel(model) if PackedModel.supports(model) else TransformersForward(model)
