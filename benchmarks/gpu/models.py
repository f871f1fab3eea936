"""Models with random weights, made where they are needed: in the shapes of real ones, and of several families."""

from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel, Qwen3Config

from agentrft.models.auto import auto_class
from agentrft.models.planned import use_planned_attention

QWEN3: dict[str, Any] = {
    "vocab_size": 151936,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        **QWEN3,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
    "qwen3-4b": {
        **QWEN3,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
    "qwen3-tiny": {
        **QWEN3,
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    },
}

SLIDING, HYBRID = ["sliding_attention", "full_attention"], ["linear_attention", "full_attention"]
# What is particular to each: states of linear attention, sinks and experts, windows and norms of its own.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3Config", {}),
    "qwen3_5": (
        "Qwen3_5TextConfig",
        {
            "layer_types": HYBRID,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
    ),
    "gpt_oss": (
        "GptOssConfig",
        {
            "layer_types": SLIDING,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "gemma3": ("Gemma3TextConfig", {"layer_types": SLIDING, "query_pre_attn_scalar": 16}),
}


def shaped_model(name: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A model of `SHAPES`, made on the device, with planned attention."""
    with torch.device(device):
        model = auto_class(shape(name)).from_config(shape(name), dtype=dtype)
    use_planned_attention(model)
    return model.eval().requires_grad_(False)


def shape(name: str) -> PretrainedConfig:
    return Qwen3Config(**SHAPES[name])


def family_config(family: str, *, small: bool) -> PretrainedConfig:
    """Of a small model of `FAMILIES`, with a window shorter than `parity.rows_of` are."""
    name, own = FAMILIES[family]
    layers = 2 if small else 4
    width, head_dim = (64, 16) if small else (256, 64)
    shared: dict[str, Any] = {
        "vocab_size": 320 if small else 2048,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "sliding_window": 16 if small else 128,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if "layer_types" in own:
        own = {**own, "layer_types": own["layer_types"] * (layers // 2)}
    if family in ("qwen3", "qwen3_5"):
        del shared["sliding_window"]
    return getattr(transformers, name)(**{**shared, **own})


def family_model(family: str, *, small: bool) -> PreTrainedModel:
    """In float32 on the CPU, with transformers' own attention; biases and norms are a little random too.

    No more than a little: what a model does with rounding must not be chaos.
    """
    config = family_config(family, small=small)
    torch.manual_seed(0)
    model = auto_class(config).from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.6 / parameter.shape[-1] ** 0.5)
    return model.eval().requires_grad_(False)
