"""Whether and how a model is computed here: judged from its configuration, and proven on its weights.

A model of the configuration is made without memory (on PyTorch's meta device) and runs over two tokens under a plan
that notes what it is asked for. So nothing is known by the name of a family: how wide its keys are, which layers have a
window or a state, how many parameters it has. What this cannot show, that the numbers are right, `prove` does when the
weights are there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from agentrft.errors import UserError
from agentrft.models.attention import PLAIN, ScoreRules, ruled_attention, seen
from agentrft.models.auto import FAULTS_OF_CONFIGURATIONS, INSTEAD, auto_class
from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.context import model_context_tokens
from agentrft.models.convert import quiet_transformers
from agentrft.models.costs import PassCosts, packed_costs
from agentrft.models.experts import expert_rank, expert_weights, experts_per_token, has_experts, largest_layer
from agentrft.models.forward import TransformersForward
from agentrft.models.lora_targets import adapter_parameters, expert_adapter_parameters, lora_targets
from agentrft.models.packed import PackedModel
from agentrft.models.planned import IMPLEMENTATION, text_config, text_decoder, use_planned_attention
from agentrft.models.precision import in_float32
from agentrft.models.recurrence import Mixer, run_from

_ATTENTION_LAYERS = frozenset({"attention", "full_attention", "sliding_attention"})
LAYER_TYPES = _ATTENTION_LAYERS | {"linear_attention", "mamba", "mamba2", "conv", "hybrid", "mlp", "moe"}
PROOF_TOKENS = 24
# Of log-probabilities: in float32, and where both ways round differently.
PROOF_TOLERANCE = {torch.float32: 1e-3}
ROUNDED_TOLERANCE = 0.15


@dataclass(frozen=True)
class Architecture:
    """How a model is computed.

    Attributes:
        family: transformers' name of its type.
        path: "fast" is our own pass, "transformers" its modules, entered by plans.
        parameters: of the text part.
        cache_shapes: what an engine keeps of a sequence.
        costs: of a pass over each token.
        lora_layers: how many linear layers an adapter changes.
        lora_parameters: numbers of an adapter of rank 1 of these.
        experts: None where no tokens are routed.
        context_tokens: the longest context; None where the configuration does not say.
    """

    family: str
    path: Literal["fast", "transformers"]
    parameters: int
    cache_shapes: CacheShapes
    costs: PassCosts
    lora_layers: int
    lora_parameters: int
    experts: "Experts | None"
    context_tokens: int | None

    def trained_parameters(self, lora_rank: int | None, *, lora_experts: bool) -> int:
        """How many numbers are trained.

        Args:
            lora_rank: None trains all weights.
            lora_experts: whether experts get adapters.
        """
        if lora_rank is None:
            return self.parameters
        own = 0
        if self.experts and lora_experts:
            own = expert_rank(lora_rank, self.experts.per_token) * self.experts.lora_parameters
        return lora_rank * self.lora_parameters + own

    def training_costs(self, lora_rank: int | None, *, lora_experts: bool) -> PassCosts:
        """`costs`, with what adapters add. Arguments as in `trained_parameters`."""
        if self.experts is None or lora_rank is None or not lora_experts:
            return self.costs
        sizes = self.experts.parameters, self.experts.layer_parameters
        merged, largest = (size * self.costs.itemsize for size in sizes)
        return replace(self.costs, pass_bytes=merged, largest_pass_bytes=largest)


@dataclass(frozen=True)
class Experts:
    """Of a model that routes tokens.

    Attributes:
        per_token: of each layer.
        parameters: of those that adapters can change; 0 where PEFT cannot.
        layer_parameters: of these in one layer, the one with most.
        lora_parameters: numbers of adapters of rank 1 in each expert.
    """

    per_token: int
    parameters: int
    layer_parameters: int
    lora_parameters: int


def inspect_architecture(config: PretrainedConfig, dtype: torch.dtype = torch.bfloat16) -> Architecture:
    """Judge a model by its configuration, without its weights.

    Raises:
        UserError: it cannot be computed.
    """
    text = config.get_text_config(decoder=True)
    _refuse_layers(text)
    model = _empty_model(config)
    forward, is_fast, experts = TransformersForward(model), PackedModel.supports(model), _experts(model)
    try:
        if experts:
            # Their other ways of computing look at which experts are hit, and here no number is known.
            model.set_experts_implementation("grouped_mm")
        shapes = forward.cache_shapes.of(dtype)
        costs = packed_costs(text, dtype.itemsize) if is_fast else forward.costs.of(dtype.itemsize)
    # What an architecture does that no plan can follow is found out by trying.
    except FAULTS_OF_CONFIGURATIONS as error:
        raise _not_computable(config, error) from error
    _refuse_unseen(text, shapes)
    targets = lora_targets(model)
    if not targets:
        raise UserError(f"model type '{text.model_type}' has no linear layers for adapters.", INSTEAD)
    return Architecture(
        family=text.model_type,
        path="fast" if is_fast else "transformers",
        parameters=sum(one.numel() for one in text_decoder(model).parameters()) + _head_parameters(model),
        cache_shapes=shapes,
        costs=costs,
        lora_layers=len(targets),
        lora_parameters=adapter_parameters(model, targets, 1),
        experts=experts,
        context_tokens=model_context_tokens(config.to_dict()),
    )


def prove(model: PreTrainedModel) -> None:
    """Compare a loaded model's pass under a plan with transformers' own over the same tokens.

    Raises:
        UserError: they differ by more than rounding.
    """
    dtype = next(model.parameters()).dtype
    difference = _difference(model)
    tolerance = PROOF_TOLERANCE.get(dtype, ROUNDED_TOLERANCE)
    if not difference <= tolerance and dtype not in PROOF_TOLERANCE:
        # Where weights make large scores, such as Qwen2.5's biases of keys, both round far apart, and float32 decides.
        with in_float32(model):
            difference, tolerance = _difference(model), PROOF_TOLERANCE[torch.float32]
    if not difference <= tolerance:
        family = text_config(model).model_type
        raise UserError(
            f"model type '{family}' is computed otherwise here than by transformers: log-probabilities differ by "
            f"{difference:.2g}.",
            INSTEAD,
        )


def _difference(model: PreTrainedModel) -> float:
    """The largest one, over some tokens, of the log-probabilities that both give to what comes next."""
    config = text_config(model)
    device = next(model.parameters()).device
    source = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (PROOF_TOKENS,), generator=source).to(device)
    positions = torch.arange(PROOF_TOKENS, device=device)
    forward = TransformersForward(model)
    with torch.no_grad():
        ours = forward.head(forward.trunk(ids, positions, positions, OneSequence(PROOF_TOKENS // 2)))
        with _own_attention(model):
            theirs = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0]
    difference = (ours.float().log_softmax(-1) - theirs.float().log_softmax(-1)).abs()
    # A single unlikely token's log-probability is rounded coarsely; likely ones weigh most.
    return float((difference * theirs.float().softmax(-1)).sum(-1).max())


class OneSequence:
    """A plan for one sequence, whose recurrent layers run in two parts: see `ContextPlan`."""

    def __init__(self, split: int) -> None:
        self._split = split

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules = PLAIN
    ) -> Tensor:
        positions = torch.arange(query.shape[1], device=query.device)
        return ruled_attention(query, key, value, scaling, seen(positions, positions, rules.window), rules)

    def recur(self, mixer: Mixer, hidden: Tensor) -> Tensor:
        first, states = run_from(mixer, hidden[:, : self._split], {})
        second, _ = run_from(mixer, hidden[:, self._split :], states)
        return torch.cat((first, second), dim=1)


@contextmanager
def _own_attention(model: PreTrainedModel) -> Iterator[None]:
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(IMPLEMENTATION)


def _empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """In bfloat16, which all operations take."""
    maker = auto_class(config)
    try:
        with torch.device("meta"), quiet_transformers():
            model = maker.from_config(config, dtype=torch.bfloat16)
    except FAULTS_OF_CONFIGURATIONS as error:
        raise _not_computable(config, error) from error
    use_planned_attention(model)
    return model


def _not_computable(config: PretrainedConfig, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"model type '{config.model_type}' cannot be computed here: {reason[:200]}", INSTEAD)


def _refuse_layers(config: PretrainedConfig) -> None:
    unknown = sorted(set(getattr(config, "layer_types", None) or []) - LAYER_TYPES)
    if unknown:
        raise UserError(
            f"model type '{config.model_type}' has layers that are not computed here: {', '.join(unknown)}.", INSTEAD
        )


def _refuse_unseen(config: PretrainedConfig, shapes: CacheShapes) -> None:
    """What the configuration has must have come up in the pass: each layer, and windows."""
    kinds = getattr(config, "layer_types", None)
    attends = [kind in _ATTENTION_LAYERS for kind in kinds] if kinds else []
    missing = [layer for layer, does in enumerate(attends) if does and layer not in shapes.keys]
    if missing or not (kinds or len(shapes.keys) + len(shapes.states) >= config.num_hidden_layers):
        raise UserError(
            f"model type '{config.model_type}' computes attention in a way of its own, which is not followed here.",
            INSTEAD,
        )
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or [])
    if slides and all(shape.window is None for shape in shapes.keys.values()):
        raise UserError(
            f"model type '{config.model_type}' has sliding windows that its layers do not tell of.", INSTEAD
        )


def _experts(model: PreTrainedModel) -> Experts | None:
    if not has_experts(model):
        return None
    weights = expert_weights(model)
    return Experts(
        per_token=experts_per_token(text_config(model)),
        parameters=sum(weight.numel() for weight in weights.values()),
        layer_parameters=largest_layer(weights),
        lora_parameters=expert_adapter_parameters(weights, 1),
    )


def _head_parameters(model: PreTrainedModel) -> int:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or getattr(text_config(model), "tie_word_embeddings", False):
        return 0
    weight = cast(Tensor, head.weight)
    return 0 if embedding is not None and weight is embedding.weight else weight.numel()
