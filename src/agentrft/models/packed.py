"""Llama-family models over packed tokens: fused projections, merged adapters, and nothing else in between.

The engine and the learner compute with the very same weights here. A projection's weight is the frozen one plus the
adapter's change, rounded once; its backward pass sends gradients to the adapters alone. So what was sampled is what is
trained on to the last bit of the weights, and no trained adapter costs anything in the forward pass. Without gradient
rows may also have adapters of their own, which are not merged: see `models.lora`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel

from agentrft.models.attention import PLAIN, ContextPlan, ScoreRules
from agentrft.models.cache_shapes import CacheShapes, KeyShape
from agentrft.models.context import LENGTH_DEPENDENT
from agentrft.models.costs import PassCosts, packed_costs
from agentrft.models.heads import heads_of
from agentrft.models.layouts import lay_out, pays
from agentrft.models.lora import LoraAdapter, LoraPart, LoraRows, Mixtures
from agentrft.models.native import Kernels, kernels_for
from agentrft.models.packed_ops import added_rms_norm, rms_norm, rotate, swiglu
from agentrft.models.projections import Adapter, Projection
from agentrft.models.routing import RouterStatistics

SUPPORTED = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# Rows of the feed-forward part computed at once without gradient: what is in between then stays in a core's own cache.
FEED_FORWARD_ROWS = 512


@dataclass
class _Layer:
    attention_norm: Tensor
    query_key_value: Projection
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        return self.query_key_value, self.output, self.gate_up, self.down


class PackedModel:
    """A supported model's weights, laid out for packed tokens.

    Fused and adapted weights are copies; embeddings, norms and the head are the model's own tensors.

    Args:
        model: of a type in `SUPPORTED`; gradients of its own weights are not computed here.

    Attributes:
        config: the model's.
        dtype, device: of its weights.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.config: PretrainedConfig = model.config
        inner = cast(Any, model).model
        self._embedding: Tensor = inner.embed_tokens.weight.detach()
        self._head: Tensor = cast(Any, model).lm_head.weight.detach()
        self._norm: Tensor = inner.norm.weight.detach()
        self._rotary: nn.Module = inner.rotary_emb
        self._epsilon: float = self.config.rms_norm_eps
        self.dtype, self.device = self._embedding.dtype, self._embedding.device
        self._heads, self._kv_heads, head_dim = heads_of(self.config)
        self._rules = [_rules(layer.self_attn) for layer in inner.layers]
        self._weights: dict[str, Tensor] = {}
        self._places: dict[str, tuple[Projection, slice]] = {}
        self._owners: dict[str, Projection] = {}
        self._layers = [self._layer(f"model.layers.{index}", layer) for index, layer in enumerate(inner.layers)]
        for name, parameter in model.named_parameters():
            self._weights.setdefault(name, parameter.detach())
        projections = [p for layer in self._layers for p in layer.projections]
        size = sum(p.weight.nbytes for p in projections) + self._head.nbytes
        self._kernels = kernels_for(self._embedding, head_dim)
        # Whose layout is out of date; made anew before the next pass.
        self._outdated = {id(p): p for p in projections} if pays(self._embedding, size) else None
        self._mixtures = Mixtures()
        self._head_product = lay_out(self._head, self._kernels) if self._outdated is not None else None

    @staticmethod
    def supports(model: nn.Module) -> bool:
        """Whether the model can be computed here; others run as transformers' modules."""
        config = getattr(model, "config", None)
        return (
            isinstance(model, PreTrainedModel)
            and config is not None
            and PackedModel.supports_config(config)
            and hasattr(model, "lm_head")
        )

    @staticmethod
    def supports_config(config: PretrainedConfig) -> bool:
        """Whether causal language models of this configuration can be computed here."""
        return config.model_type in SUPPORTED and config.hidden_act == "silu"

    @property
    def cache_shapes(self) -> CacheShapes:
        """See `Forward`."""
        heads, kv_heads, head_dim = heads_of(self.config)
        return CacheShapes(
            {
                layer: KeyShape(heads, kv_heads, head_dim, head_dim, rules.window)
                for layer, rules in enumerate(self._rules)
            }
        )

    @property
    def costs(self) -> PassCosts:
        """See `Forward`."""
        return packed_costs(self.config, self.dtype.itemsize)

    @property
    def replayable(self) -> bool:
        """See `Forward`."""
        return getattr(self._rotary, "rope_type", "default") not in LENGTH_DEPENDENT

    def __call__(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        keep: Tensor,
        plan: ContextPlan,
        adapters: Sequence[LoraAdapter | None] | None = None,
    ) -> Tensor:
        """See `Forward`."""
        return self.head(self.trunk(token_ids, position_ids, keep, plan, adapters=adapters))

    def head(self, rows: Tensor) -> Tensor:
        """See `Forward`."""
        if self._head_product is None or torch.is_grad_enabled():
            return nn.functional.linear(rows, self._head)
        return self._head_product(rows, None)

    def trunk(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        keep: Tensor,
        plan: ContextPlan,
        *,
        recompute: bool = False,
        adapters: Sequence[LoraAdapter | None] | None = None,
    ) -> Tensor:
        """See `Forward`: the normalised rows."""
        if adapters is not None and torch.is_grad_enabled():
            raise ValueError("rows have adapters of their own only where there is no gradient")
        lora = None if adapters is None else LoraRows(adapters, self._mixtures, self.device)
        self._lay_out_outdated()
        x = nn.functional.embedding(token_ids, self._embedding)
        if torch.is_grad_enabled():
            x.requires_grad_(True)
        cosine, sine = self._rotary(x, position_ids.unsqueeze(0))
        angles = cosine.transpose(0, 1), sine.transpose(0, 1)
        if self._kernels is not None and not torch.is_grad_enabled():
            return self._run(self._kernels, x, angles, keep, plan, lora)
        normed = rms_norm(x, self._layers[0].attention_norm, self._epsilon)
        for index in range(len(self._layers)):
            kept = keep if index == len(self._layers) - 1 else None
            if recompute and torch.is_grad_enabled():
                x, normed = checkpoint(
                    self._layer_with_gradient, index, x, normed, angles, plan, kept, use_reentrant=False
                )
            else:
                x, normed = self._layer_with_gradient(index, x, normed, angles, plan, kept, lora)
        return normed

    def _layer_with_gradient(
        self,
        index: int,
        x: Tensor,
        normed: Tensor,
        angles: tuple[Tensor, Tensor],
        plan: ContextPlan,
        keep: Tensor | None,
        lora: LoraRows | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One layer, and the norm that follows it."""
        layer = self._layers[index]
        attended = layer.output(self._attention(index, layer, normed, angles, plan, lora), lora)
        x, normed = added_rms_norm(x, attended, layer.mlp_norm, self._epsilon, self._kernels)
        change = layer.down(swiglu(layer.gate_up(normed, lora), self._kernels), lora)
        if keep is not None:
            x, change = x[keep], change[keep]
        return added_rms_norm(x, change, self._norm_after(index), self._epsilon, self._kernels)

    def _run(
        self,
        kernels: Kernels,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        keep: Tensor,
        plan: ContextPlan,
        lora: LoraRows | None,
    ) -> Tensor:
        """All layers by the native kernels, without gradient; returns the normalised rows to keep.

        Each addition to `x` is left to the norm that follows it, and the last layer computes only what is kept.
        """
        normed = kernels.add_rms_norm(x, None, self._layers[0].attention_norm, self._epsilon)
        loras = _split(lora, len(x))
        for index, layer in enumerate(self._layers):
            attended = self._attention(index, layer, normed, angles, plan, lora)
            if index == len(self._layers) - 1:
                attended, x = attended[keep], x[keep]
                lora = None if lora is None else lora.at(keep.tolist())
                loras = _split(lora, len(x))
            change = layer.output(attended, lora)
            parts = zip(x.split(FEED_FORWARD_ROWS), change.split(FEED_FORWARD_ROWS), loras, strict=True)
            for own, rows, own_lora in parts:
                normed = kernels.add_rms_norm(own, rows, layer.mlp_norm, self._epsilon)
                rows.copy_(layer.down(kernels.swiglu(layer.gate_up(normed, own_lora)), own_lora))
            normed = kernels.add_rms_norm(x, change, self._norm_after(index), self._epsilon)
        return normed

    def _norm_after(self, index: int) -> Tensor:
        """The norm of what a layer gives: the next layer's first one, or the model's last."""
        return self._norm if index == len(self._layers) - 1 else self._layers[index + 1].attention_norm

    @torch.no_grad()
    def write(self, name: str, weight: Tensor) -> None:
        """See `Forward`."""
        self._weights[name].copy_(weight)
        if self._outdated is None:
            return
        if name in self._owners:
            self._outdated[id(self._owners[name])] = self._owners[name]
        elif self._weights[name].data_ptr() == self._head.data_ptr():
            self._head_product = lay_out(self._head, self._kernels)

    def take_routing(self) -> RouterStatistics:
        """See `Forward`: no model that is computed here has experts."""
        return RouterStatistics()

    def adapt(self, name: str, adapter: Adapter) -> None:
        """Attach an adapter to the linear layer `name`; its `rows` are set here."""
        projection, adapter.rows = self._places[name]
        projection.adapters.append(adapter)

    def lora(self, layers: Mapping[str, tuple[Tensor, Tensor]], scale: float) -> LoraAdapter:
        """An adapter for rows of this model, in its dtype and on its device; the model itself does not change.

        Args:
            layers: down [rank, in] and up [out, rank] by the name of the linear layer.

        Raises:
            ValueError: a layer is not among those that adapters can change, or has another shape.
        """
        parts: dict[Projection, list[LoraPart]] = {}
        for name, (down, up) in sorted(layers.items()):
            if name not in self._places:
                raise ValueError(f"the model has no linear layer '{name}' that an adapter can change")
            projection, rows = self._places[name]
            expected = (len(down), projection.weight.shape[1]), (rows.stop - rows.start, len(down))
            if (down.shape, up.shape) != expected:
                raise ValueError(f"{name}: shapes {list(down.shape)} and {list(up.shape)} do not fit")
            scaled = (up.float() * scale).T.contiguous()
            own = LoraPart(rows.start, rows.stop, *(part.to(self.device, self.dtype) for part in (down, scaled)))
            parts.setdefault(projection, []).append(own)
        return LoraAdapter(parts)

    def _lay_out_outdated(self) -> None:
        for projection in (self._outdated or {}).values():
            projection.product = lay_out(projection.weight, self._kernels)
        if self._outdated:
            self._outdated.clear()

    def _attention(
        self,
        index: int,
        layer: _Layer,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        plan: ContextPlan,
        lora: LoraRows | None,
    ) -> Tensor:
        """[tokens, heads * head_dim], before the output projection."""
        heads, kv_heads = self._heads, self._kv_heads
        projected = layer.query_key_value(x, lora).view(len(x), heads + 2 * kv_heads, -1)
        both, value = projected[:, : heads + kv_heads], projected[:, heads + kv_heads :]
        if layer.query_norm is not None and layer.key_norm is not None:
            query, key = both[:, :heads], both[:, heads:]
            query = rms_norm(query, layer.query_norm, self._epsilon)
            both = torch.cat((query, rms_norm(key, layer.key_norm, self._epsilon)), dim=1)
        if self._kernels is not None and not torch.is_grad_enabled():
            self._kernels.rotate(both, *angles)
        else:
            both = rotate(both, *angles, self._kernels)
        query, key = both[:, :heads].transpose(0, 1), both[:, heads:].transpose(0, 1)
        scaling, rules = query.shape[-1] ** -0.5, self._rules[index]
        attended = plan.attend(index, query, key, value.transpose(0, 1), scaling, rules)
        return attended.reshape(len(x), -1)

    def _layer(self, name: str, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return _Layer(
            attention_norm=layer.input_layernorm.weight.detach(),
            query_key_value=self._fused(f"{name}.self_attn", attention, ("q_proj", "k_proj", "v_proj")),
            query_norm=_weight_of(attention, "q_norm"),
            key_norm=_weight_of(attention, "k_norm"),
            output=self._fused(f"{name}.self_attn", attention, ("o_proj",)),
            mlp_norm=layer.post_attention_layernorm.weight.detach(),
            gate_up=self._fused(f"{name}.mlp", mlp, ("gate_proj", "up_proj")),
            down=self._fused(f"{name}.mlp", mlp, ("down_proj",)),
        )

    def _fused(self, parent: str, module: nn.Module, names: Sequence[str]) -> Projection:
        """The named linear layers of `module` as one projection, registered under their own names."""
        parts = [cast(nn.Linear, getattr(module, name)) for name in names]
        weight = torch.cat([part.weight.detach() for part in parts])
        biases = [part.bias for part in parts]
        bias = torch.cat([b.detach() for b in biases if b is not None]) if biases[0] is not None else None
        projection = Projection(weight, bias)
        start = 0
        for name, part in zip(names, parts, strict=True):
            rows = slice(start, start + part.out_features)
            self._weights[f"{parent}.{name}.weight"] = weight[rows]
            self._owners[f"{parent}.{name}.weight"] = projection
            if bias is not None:
                self._weights[f"{parent}.{name}.bias"] = bias[rows]
            self._places[f"{parent}.{name}"] = projection, rows
            start = rows.stop
        return projection


def _weight_of(module: nn.Module, name: str) -> Tensor | None:
    found = getattr(module, name, None)
    return None if found is None else found.weight.detach()


def _rules(attention: Any) -> ScoreRules:
    """Of a layer's attention, of which Mistral's says its window in the configuration alone."""
    if hasattr(attention, "sliding_window"):
        window = attention.sliding_window
    else:
        window = getattr(attention.config, "sliding_window", None) if attention.config.model_type == "mistral" else None
    return PLAIN if window is None else ScoreRules(window)


def _split(lora: LoraRows | None, rows: int) -> Sequence[LoraRows | None]:
    """As the rows of the feed-forward part are split."""
    return [None] * max(1, -(-rows // FEED_FORWARD_ROWS)) if lora is None else lora.split(FEED_FORWARD_ROWS)
