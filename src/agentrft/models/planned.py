"""transformers' modules made to follow a plan: whatever the architecture, by four places where they can be entered.

- attention: transformers hands each layer's projected and rotated query, key and value to the function that is
  registered under the model's implementation name; ours passes them on to the plan.
- recurrent layers: a module that takes a cache of states is run from the states that the plan has for it.
- decoder layers: with gradient each can be computed again in the backward pass instead of being kept.
- the base model: what stands between it and the logits (soft caps, scales, the head) is computed by the causal model
  itself, with the hidden states that it is given instead of the base model's.

None of them depends on arguments being passed down through an architecture's own code.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from agentrft.models.attention import PLAIN, ContextPlan, ScoreRules
from agentrft.models.recurrence import Mixer, MixerStates

IMPLEMENTATION = "agentrft_plan"
# How recurrent modules call the cache that they are given.
CACHE_ARGUMENTS = ("cache_params", "past_key_values")
_CURRENT = "_agentrft_current"


@dataclass
class _Current:
    """What is being computed with a model: shared by the places where its modules are entered."""

    plan: ContextPlan | None = None
    recompute: bool = False
    hidden: Tensor | None = None

    @contextmanager
    def use(self, plan: ContextPlan, *, recompute: bool) -> Iterator[None]:
        before = self.plan, self.recompute
        self.plan, self.recompute = plan, recompute
        try:
            yield
        finally:
            self.plan, self.recompute = before


class PlannedModel:
    """A causal language model of transformers, entered; several of these may be made of one.

    Args:
        model: with `use_planned_attention`; adapters of PEFT may be in its layers.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._decoder = text_decoder(model)
        entered = cast(_Current | None, getattr(self._decoder, _CURRENT, None))
        self._current = _entered(model, self._decoder) if entered is None else entered

    def hidden_states(
        self, token_ids: Tensor, position_ids: Tensor, plan: ContextPlan, *, recompute: bool = False
    ) -> Tensor:
        """[tokens, width] before the head."""
        with self._current.use(plan, recompute=recompute and torch.is_grad_enabled()):
            output = self._decoder(
                input_ids=token_ids.unsqueeze(0), position_ids=position_ids.unsqueeze(0), use_cache=False
            )
        return output.last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, width] before the head to [rows, vocabulary]."""
        rows = hidden.unsqueeze(0)
        self._current.hidden = rows
        try:
            return self._model(inputs_embeds=rows, use_cache=False).logits[0]
        finally:
            self._current.hidden = None


def use_planned_attention(model: PreTrainedModel) -> None:
    """Switch a loaded model's attention to plans."""
    model.set_attn_implementation(IMPLEMENTATION)


def _cache_argument(module: nn.Module) -> str | None:
    """The name of a recurrent module's cache; None for all other modules."""
    if not hasattr(module, "layer_idx") or isinstance(module, GradientCheckpointingLayer):
        return None
    arguments = inspect.signature(type(module).forward).parameters
    for name in CACHE_ARGUMENTS:
        # Attention has such an argument too, and no convolution of its own.
        if name in arguments and any(isinstance(child, nn.Conv1d) for child in module.children()):
            return name
    return None


def _entered(model: nn.Module, decoder: nn.Module) -> _Current:
    """Replace the forward methods of a model's modules where a plan must come in."""
    current, mixers = _Current(), 0
    # In a model of images and text too, what the head follows is the part that the text's model is in.
    base = next((child for child in model.children() if any(module is decoder for module in child.modules())), None)
    if base is None:
        raise ValueError("its text part is not told apart from its head")
    base.forward = _BaseModel(base.forward, current)
    setattr(decoder, _CURRENT, current)
    for module in decoder.modules():
        forward = module.forward
        if isinstance(module, GradientCheckpointingLayer):
            module.forward = _Layer(forward, current)
        elif (argument := _cache_argument(module)) is not None:
            module.forward = _MixerModule(forward, current, mixers, argument)
            mixers += 1
        elif not hasattr(module, "layer_idx"):
            continue
        setattr(module, _CURRENT, current)
    return current


class _Hidden:
    """What stands in for a base model's output: the hidden states, and nothing else."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


@dataclass(frozen=True)
class _BaseModel:
    forward: Callable[..., Any]
    current: _Current

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.current.hidden is not None:
            return _Hidden(self.current.hidden)
        return self.forward(*arguments, **named)


@dataclass(frozen=True)
class _Layer:
    forward: Callable[..., Any]
    current: _Current

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        plan = self.current.plan
        if plan is None or not self.current.recompute:
            return self.forward(*arguments, **named)

        def again(*arguments: Any) -> Any:
            with self.current.use(plan, recompute=False):
                return self.forward(*arguments, **named)

        return checkpoint(again, *arguments, use_reentrant=False)


@dataclass(frozen=True)
class _MixerModule:
    forward: Callable[..., Any]
    current: _Current
    index: int
    cache_argument: str

    def __call__(self, hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if self.current.plan is None:
            return self.forward(hidden_states, *arguments, **named)
        return self.current.plan.recur(Mixer(self.index, self._run), hidden_states)

    def _run(self, hidden: Tensor, states: MixerStates) -> Tensor:
        return self.forward(hidden, **{self.cache_argument: states})


def _planned_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    current = cast(_Current | None, getattr(module, _CURRENT, None))
    if current is None or current.plan is None:
        raise RuntimeError("this model runs with a plan only")
    if not getattr(module, "is_causal", True):
        raise ValueError("its attention sees what comes later")
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    plain = sliding_window is None and softcap is None and s_aux is None
    rules = PLAIN if plain else ScoreRules(sliding_window, softcap, s_aux)
    layer = cast(int, module.layer_idx)
    return current.plan.attend(layer, query[0], key[0], value[0], factor, rules).unsqueeze(0), None


# Without a function for masks of this name transformers makes none.
ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _planned_attention)


def text_decoder(model: PreTrainedModel) -> nn.Module:
    """The part of a model that turns tokens into hidden states, without images and the like."""
    decoder = cast(nn.Module, model.get_decoder())
    return getattr(decoder, "language_model", decoder)


def text_config(model: PreTrainedModel) -> PretrainedConfig:
    """The configuration of a model's text part, which of many models is all there is."""
    return model.config.get_text_config(decoder=True)
