"""Tiny random models of several architectures, each twice: with planned attention, and plain for reference."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from agentrft.models.planned import use_planned_attention

VOCABULARY = 300
CONTEXT_TOKENS = 256

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SHAPE, num_hidden_layers=3),
    "llama_tied": lambda: LlamaConfig(**SHAPE, num_hidden_layers=2, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**SHAPE, num_hidden_layers=2),
    "qwen3": lambda: Qwen3Config(**SHAPE, num_hidden_layers=2, head_dim=16),
}
ARCHITECTURES = list(CONFIGS)
# With heads as wide as the native kernels take them.
WIDE = {**SHAPE, "hidden_size": 192, "initializer_range": 0.05}
CONFIGS |= {
    "llama_wide": lambda: LlamaConfig(**WIDE, num_hidden_layers=3),
    "qwen3_wide": lambda: Qwen3Config(**WIDE, num_hidden_layers=2, head_dim=96),
}


@dataclass(frozen=True)
class TinyModel:
    """`planned` and `plain` have equal weights of their own."""

    planned: PreTrainedModel
    plain: PreTrainedModel


def tiny_model(architecture: str = "llama", dtype: torch.dtype = torch.float32, *, seed: int = 0) -> TinyModel:
    """A fresh pair; biases and norms are random too, so that none of them can be forgotten unnoticed."""
    config = CONFIGS[architecture]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        planned = _build(config)
        with torch.no_grad():
            for name, parameter in planned.named_parameters():
                if parameter.ndim == 1:
                    parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if "norm" in name else 0.0))
    # The attention implementation lives in the configuration, which the two must not share.
    plain = _build(copy.deepcopy(config))
    plain.load_state_dict(planned.state_dict())
    use_planned_attention(planned)
    return TinyModel(planned.to(dtype).eval(), plain.to(dtype).eval())


def _build(config: PretrainedConfig) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config)


def padded_logprobs(model: nn.Module, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[Tensor]:
    """For each row, the log-probabilities [tokens, vocabulary] of what follows each token; one right-padded batch."""
    longest = max(len(row) for row in rows)
    token_ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logits = model(input_ids=token_ids, attention_mask=mask).logits.float() / temperature
    return [logits[index, : len(row)].log_softmax(dim=-1) for index, row in enumerate(rows)]
