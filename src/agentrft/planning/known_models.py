"""Configurations of common models, so that they can be planned for before they are downloaded.

Only what decides shapes is in them, as it stands in the `config.json` of each.
"""

from typing import Any

_QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128, "max_position_embeddings": 40960}
_QWEN2 = {"model_type": "qwen2", "vocab_size": 152064, "max_position_embeddings": 32768}
_LLAMA = {
    "model_type": "llama",
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}


def _shape(width: int, inner: int, layers: int, heads: int, kv_heads: int, *, tied: bool = False) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": tied,
    }


_SMOLLM2_135M = {
    "model_type": "llama",
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    **_shape(576, 1536, 30, 9, 3, tied=True),
}
_LLAMA_3_1_8B = {**_LLAMA, **_shape(4096, 14336, 32, 32, 8)}
_LLAMA_3_1_70B = {**_LLAMA, **_shape(8192, 28672, 80, 64, 8)}

KNOWN_CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2-135m": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
    "Qwen/Qwen3-0.6B": {**_QWEN3, **_shape(1024, 3072, 28, 16, 8, tied=True)},
    "Qwen/Qwen3-1.7B": {**_QWEN3, **_shape(2048, 6144, 28, 16, 8, tied=True)},
    "Qwen/Qwen3-4B": {**_QWEN3, **_shape(2560, 9728, 36, 32, 8, tied=True)},
    "Qwen/Qwen3-8B": {**_QWEN3, **_shape(4096, 12288, 36, 32, 8)},
    "Qwen/Qwen3-14B": {**_QWEN3, **_shape(5120, 17408, 40, 40, 8)},
    "Qwen/Qwen3-32B": {**_QWEN3, **_shape(5120, 25600, 64, 64, 8)},
    "Qwen/Qwen2.5-7B-Instruct": {**_QWEN2, **_shape(3584, 18944, 28, 28, 4)},
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_3_1_8B,
    "meta-llama/Llama-3.1-8B": _LLAMA_3_1_8B,
    "meta-llama/Llama-3.1-70B-Instruct": _LLAMA_3_1_70B,
    "meta-llama/Llama-3.1-70B": _LLAMA_3_1_70B,
}
