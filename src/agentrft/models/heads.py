"""The shape of a model's attention."""

from typing import NamedTuple

from transformers import PretrainedConfig


class Heads(NamedTuple):
    """Query heads, key-value heads, and dimensions of each."""

    query: int
    kv: int
    head_dim: int


def heads_of(config: PretrainedConfig) -> Heads:
    """As transformers' models read it: what a configuration leaves out follows from the rest."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return Heads(heads, kv_heads, getattr(config, "head_dim", None) or config.hidden_size // heads)
