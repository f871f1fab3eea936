"""How long a sequence a model takes, by what its configuration says."""

from typing import Any

import pytest
from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config

from agentrft.models.context import model_context_tokens

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 40960}, 40960),
        ({"n_positions": 1024}, 1024),
        ({}, None),
        ({"max_position_embeddings": None}, None),
        ({"max_position_embeddings": 32768, "rope_scaling": YARN}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": YARN}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2}}, 8192),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "longrope", "factor": 32.0}}, 131072),
        ({"max_position_embeddings": 8192, "rope_scaling": {"rope_type": "dynamic", "factor": "many"}}, 8192),
        ({"max_position_embeddings": 8192, "rope_scaling": None, "rope_parameters": {"rope_theta": 1e4}}, 8192),
        ({"text_config": {"max_position_embeddings": 262144}, "max_position_embeddings": 1}, 262144),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 99,
                "rope_scaling": {"type": "linear", "factor": 8},
            },
            99,
        ),
    ],
)
def test_the_length_after_rotary_scaling_is_what_a_model_takes(config: dict[str, Any], tokens: int | None) -> None:
    assert model_context_tokens(config) == tokens


def test_configurations_of_transformers_say_the_same_as_their_files() -> None:
    yarn = {"rope_theta": 1e6, **YARN}
    assert model_context_tokens(Qwen2Config(max_position_embeddings=32768, rope_parameters=yarn).to_dict()) == 131072
    assert model_context_tokens(LlamaConfig(max_position_embeddings=512).to_dict()) == 512
    assert model_context_tokens(Gemma3TextConfig(max_position_embeddings=4096).to_dict()) == 4096
