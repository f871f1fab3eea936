"""Tiny configurations of the model families that people train, each with the features of the real ones."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig

from agentrft.models.auto import auto_class
from agentrft.models.planned import use_planned_attention
from tests.tiny_model import VOCABULARY, TinyModel

BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# Shorter than the tests' rows, so that it hides something.
WINDOW = 9
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 16,
}
GRANITE_HYBRID: dict[str, Any] = {
    "layer_types": ["mamba", "attention"],
    "shared_intermediate_size": 24,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
SLIDING = ["sliding_attention", "full_attention"]
HYBRID = ["linear_attention", "full_attention"]
IMAGES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _made(name: str, **changes: Any) -> Callable[[], PretrainedConfig]:
    return lambda: getattr(transformers, name)(**{**BASE, **changes})


FAMILIES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": _made("LlamaConfig"),
    "mistral": _made("MistralConfig", sliding_window=WINDOW, head_dim=16),
    "ministral3": _made("Ministral3Config", head_dim=16),
    "mixtral": _made("MixtralConfig", num_local_experts=4, num_experts_per_tok=2),
    "qwen2": _made("Qwen2Config"),
    "qwen2_window": _made("Qwen2Config", use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    "qwen3": _made("Qwen3Config", head_dim=16),
    "qwen3_moe": _made("Qwen3MoeConfig", **EXPERTS, num_experts=4, head_dim=16),
    "qwen3_next": _made(
        "Qwen3NextConfig", **LINEAR, **EXPERTS, num_experts=4, layer_types=HYBRID, shared_expert_intermediate_size=24
    ),
    "qwen3_5": _made("Qwen3_5TextConfig", **LINEAR, layer_types=HYBRID),
    "qwen3_5_moe": _made(
        "Qwen3_5MoeTextConfig",
        **LINEAR,
        **EXPERTS,
        num_experts=4,
        layer_types=HYBRID,
        shared_expert_intermediate_size=24,
    ),
    "gemma2": _made(
        "Gemma2Config",
        head_dim=16,
        sliding_window=WINDOW,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": _made(
        "Gemma3TextConfig", head_dim=16, sliding_window=WINDOW, layer_types=SLIDING, query_pre_attn_scalar=16
    ),
    "gemma4": _made(
        "Gemma4TextConfig",
        head_dim=16,
        global_head_dim=24,
        sliding_window=WINDOW,
        num_hidden_layers=4,
        num_kv_shared_layers=2,
        layer_types=SLIDING * 2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
    ),
    # As Gemma 4's 26B: experts beside a layer's own feed-forward part, and no inputs for each layer.
    "gemma4_moe": _made(
        "Gemma4TextConfig",
        head_dim=16,
        global_head_dim=24,
        sliding_window=WINDOW,
        layer_types=SLIDING,
        hidden_size_per_layer_input=0,
        enable_moe_block=True,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=24,
    ),
    "phi3": _made("Phi3Config", sliding_window=WINDOW),
    "smollm3": _made("SmolLM3Config", no_rope_layers=[1, 0]),
    "olmo2": _made("Olmo2Config"),
    "olmo3": _made("Olmo3Config", sliding_window=WINDOW, layer_types=SLIDING),
    "granite": _made(
        "GraniteConfig", embedding_multiplier=2.0, logits_scaling=3.0, residual_multiplier=0.5, attention_multiplier=0.2
    ),
    "granitemoehybrid": _made("GraniteMoeHybridConfig", **GRANITE_HYBRID, num_local_experts=4, num_experts_per_tok=2),
    # As Granite 4 micro, whose configuration counts no experts.
    "granitemoehybrid_dense": _made(
        "GraniteMoeHybridConfig", **GRANITE_HYBRID, num_local_experts=0, num_experts_per_tok=0
    ),
    "glm4_moe": _made(
        "Glm4MoeConfig",
        **EXPERTS,
        n_routed_experts=4,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        use_qk_norm=True,
        head_dim=16,
    ),
    "gpt_oss": _made(
        "GptOssConfig",
        num_local_experts=4,
        num_experts_per_tok=2,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=SLIDING,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "lfm2": _made("Lfm2Config", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "lfm2_moe": _made(
        "Lfm2MoeConfig", **EXPERTS, num_experts=4, layer_types=["conv", "full_attention"], num_dense_layers=1
    ),
    "nemotron_h": _made(
        "NemotronHConfig",
        layers_block_type=["mamba", "attention", "mlp", "moe"],
        num_hidden_layers=4,
        mamba_num_heads=4,
        mamba_head_dim=8,
        ssm_state_size=8,
        n_groups=2,
        chunk_size=8,
        head_dim=16,
        n_routed_experts=4,
        n_shared_experts=1,
        **EXPERTS,
        moe_shared_expert_intermediate_size=24,
        n_group=1,
        topk_group=1,
    ),
    "falcon_h1": _made(
        "FalconH1Config",
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_n_groups=1,
        mamba_chunk_size=8,
        head_dim=16,
    ),
    "deepseek_v3": _made(
        "DeepseekV3Config",
        **EXPERTS,
        n_routed_experts=4,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=12,
        num_key_value_heads=4,
    ),
    "cohere2": _made("Cohere2Config", sliding_window=WINDOW, layer_types=SLIDING, head_dim=16),
    "exaone4": _made("Exaone4Config", sliding_window=WINDOW, layer_types=SLIDING, head_dim=16),
    "seed_oss": _made("SeedOssConfig", head_dim=16),
    "phimoe": _made("PhimoeConfig", num_local_experts=4, num_experts_per_tok=2),
    "gemma3_images": lambda: transformers.Gemma3Config(text_config=FAMILIES["gemma3"](), vision_config=IMAGES),
    "gemma4_images": lambda: transformers.Gemma4Config(
        text_config=FAMILIES["gemma4"](), vision_config=IMAGES, audio_config=None
    ),
    "qwen3_5_images": lambda: transformers.Qwen3_5Config(
        text_config=FAMILIES["qwen3_5"]().to_dict(),
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32},
    ),
    "mistral3_images": lambda: transformers.Mistral3Config(
        text_config=FAMILIES["mistral"](), vision_config={"model_type": "pixtral", **IMAGES}
    ),
}

# What is not computed here, and what the refusal says.
REFUSED: dict[str, tuple[Callable[[], PretrainedConfig], str]] = {
    "llama4": (_made("Llama4TextConfig", head_dim=16, num_local_experts=2), "chunked_attention"),
    "deepseek_v32": (lambda: transformers.DeepseekV32Config(), "indexed_attention"),
    "bloom": (lambda: transformers.BloomConfig(), "in a way of its own"),
    "falcon": (lambda: transformers.FalconConfig(alibi=True), "in a way of its own"),
    "rwkv": (lambda: transformers.RwkvConfig(), "in a way of its own"),
    "bert": (lambda: transformers.BertConfig(), "sees what comes later"),
    "gpt2": (lambda: transformers.GPT2Config(), "no linear layers"),
    "t5": (lambda: transformers.T5Config(), "no language model"),
}


def family_model(family: str, dtype: torch.dtype = torch.float32) -> TinyModel:
    """A random model, planned and plain; biases, norms and decays are random too, so that none can be forgotten."""
    config = FAMILIES[family]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        planned = auto_class(config).from_config(config, attn_implementation="eager")
        with torch.no_grad():
            for name, parameter in planned.named_parameters():
                middle, spread = (1.0 if "norm" in name else 0.0), 0.2 if parameter.ndim == 1 else 0.15
                parameter.copy_(torch.randn_like(parameter) * spread + middle)
    planned.to(dtype).eval()
    plain = copy.deepcopy(planned)
    use_planned_attention(planned)
    return TinyModel(planned, plain)
