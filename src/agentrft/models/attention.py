"""One hook into every transformers model: attention over packed tokens, decided by a plan.

The engine (KV cache) and the learner (token trees) both lay tokens of many sequences end to end in one row of
shape [1, tokens] and differ only in which keys a query may see. transformers hands each layer's projected and
rotated query, key and value to the attention function that is registered under the model's implementation name;
ours passes them on to the `AttentionPlan` given to the model's forward as `attention_plan=`.
"""

from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from agentrft.errors import UserError

IMPLEMENTATION = "agentrft_plan"


class AttentionPlan(Protocol):
    """Which keys each packed query sees."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention of one layer.

        Args:
            layer: index of the layer, from 0.
            query: [heads, tokens, head_dim].
            key, value: [kv_heads, tokens, head_dim]; kv_heads divides heads.
            scaling: factor on the scores.

        Returns:
            [tokens, heads, head_dim].
        """
        ...


def _planned_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    attention_plan: AttentionPlan | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if attention_plan is None:
        raise ValueError("this model runs on packed tokens only: pass attention_plan= to its forward")
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended = attention_plan.attend(cast(int, module.layer_idx), query[0], key[0], value[0], factor)
    return attended.unsqueeze(0), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _planned_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _no_mask)


def use_planned_attention(model: PreTrainedModel, *, max_context_tokens: int) -> None:
    """Switch a loaded model to plans.

    Raises:
        UserError: some layer of the model does not attend to its whole past within `max_context_tokens`.
    """
    refuse_partial_attention(model.config, max_context_tokens)
    model.set_attn_implementation(IMPLEMENTATION)


def refuse_partial_attention(config: PretrainedConfig, max_context_tokens: int) -> None:
    """Raise UserError for sliding-window layers shorter than the context, and for layers without attention."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    windowed = "sliding_attention" in kinds or (kinds == {"full_attention"} and window is not None)
    if windowed and window is not None and window < max_context_tokens:
        raise UserError(
            f"model type '{config.model_type}' attends over a sliding window of {window} tokens only, "
            f"shorter than max_context_tokens={max_context_tokens}.",
            f"Set max_context_tokens to at most {window}, or choose a model with full attention.",
        )
    unsupported = kinds - {"full_attention", "sliding_attention"}
    if unsupported or getattr(config, "attn_logit_softcapping", None):
        what = ", ".join(sorted(unsupported)) or "soft-capped attention scores"
        raise UserError(
            f"model type '{config.model_type}' has layers that the embedded engine cannot run: {what}.",
            "Choose a model whose layers all use full attention, such as Llama, Qwen2, Qwen3 or SmolLM2.",
        )


def grouped_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float, mask: Tensor | None) -> Tensor:
    """Attention of one sequence without expanding its key-value heads.

    The query heads that share a key-value head are treated as more queries to it.

    Args:
        query: [heads, queries, head_dim].
        key, value: [kv_heads, keys, head_dim].
        mask: boolean [queries, keys], True where a query may look; None where it may look anywhere.

    Returns:
        [queries, heads, head_dim].
    """
    heads, queries, head_dim = query.shape
    kv_heads, keys, _ = key.shape
    groups = heads // kv_heads
    query = query.reshape(1, kv_heads, groups * queries, head_dim)
    if mask is not None:
        mask = mask.expand(groups, queries, keys).reshape(1, 1, groups * queries, keys)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key.unsqueeze(0), value.unsqueeze(0), attn_mask=mask, scale=scaling
    )
    return out.reshape(heads, queries, head_dim).transpose(0, 1)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[queries, keys] mask of queries that are the last positions of a sequence of `keys` tokens."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal=keys - queries)
