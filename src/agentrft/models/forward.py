"""What the engine and the learner run: packed tokens in, logits out, by one of two ways of computing a model."""

from collections.abc import Sequence
from typing import Protocol, cast

from peft import PeftModel
from torch import Tensor, device, dtype, nn
from transformers import PretrainedConfig, PreTrainedModel

from agentrft.models.attention import AttentionPlan
from agentrft.models.lora import LoraAdapter
from agentrft.models.packed import PackedModel


class Forward(Protocol):
    """A model over packed tokens. `dtype` and `device` are those of its weights."""

    config: PretrainedConfig
    dtype: dtype
    device: device

    def trunk(
        self, token_ids: Tensor, position_ids: Tensor, keep: Tensor, plan: AttentionPlan, *, recompute: bool = False
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
        plan: AttentionPlan,
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


class TransformersForward:
    """Any model of transformers with planned attention (`use_planned_attention`), adapters of PEFT included.

    What stands between the last layer and the logits differs by architecture, so the trunk here ends with the logits,
    and nothing is computed again in the backward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        plain = model.get_base_model() if isinstance(model, PeftModel) else model
        self.config: PretrainedConfig = cast(PreTrainedModel, plain).config
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device

    def __call__(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        keep: Tensor,
        plan: AttentionPlan,
        adapters: Sequence[LoraAdapter | None] | None = None,
    ) -> Tensor:
        """See `Forward`."""
        if adapters is not None:
            raise ValueError(f"a model of type '{self.config.model_type}' computes no adapters beside each other")
        return self.trunk(token_ids, position_ids, keep, plan)

    def head(self, rows: Tensor) -> Tensor:
        """See `Forward`."""
        return rows

    def trunk(
        self, token_ids: Tensor, position_ids: Tensor, keep: Tensor, plan: AttentionPlan, *, recompute: bool = False
    ) -> Tensor:
        """See `Forward`."""
        return self._model(
            input_ids=token_ids.unsqueeze(0),
            position_ids=position_ids.unsqueeze(0),
            logits_to_keep=keep,
            use_cache=False,
            attention_plan=plan,
        ).logits[0]

    def write(self, name: str, weight: Tensor) -> None:
        """See `Forward`."""
        self._model.get_parameter(name).data.copy_(weight)


def forward_of(model: PreTrainedModel) -> Forward:
    """The fastest way to compute a model that has no adapters."""
    return PackedModel(model) if PackedModel.supports(model) else TransformersForward(model)
