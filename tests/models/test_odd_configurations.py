"""Whatever stands in a `config.json`, a job ends with a sentence before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.models import resolve_model
from agentrft.models.architecture import inspect_architecture
from agentrft.models.load import load_config
from tests.model_families import FAMILIES

ODD: list[Any] = [
    [],
    "qwen3",
    None,
    {},
    {"model_type": 3},
    {"model_type": "nobody-knows"},
    {"model_type": "qwen3", "hidden_size": "wide"},
    {"model_type": "qwen3", "hidden_size": -8},
    {"model_type": "qwen3", "hidden_size": 0},
    {"model_type": "qwen3", "num_hidden_layers": 0},
    {"model_type": "qwen3", "num_hidden_layers": 10**12},
    {"model_type": "qwen3", "num_hidden_layers": True},
    {"model_type": "qwen3", "vocab_size": 10**18, "hidden_size": 10**9},
    {"model_type": "qwen3", "num_attention_heads": 0},
    {"model_type": "qwen3", "num_attention_heads": 5, "num_key_value_heads": 3},
    {"model_type": "qwen3", "layer_types": ["full_attention"]},
    {"model_type": "qwen3", "layer_types": "full_attention"},
    {"model_type": "qwen3", "rope_parameters": {"rope_type": "nobody-knows"}},
    {"model_type": "qwen3", "rope_parameters": []},
    {"model_type": "qwen3", "hidden_act": "nobody-knows"},
    {"model_type": "qwen3", "vocab_size": None},
    {"model_type": "gemma3", "text_config": None, "vision_config": 3},
    {"model_type": "gemma3", "text_config": {"model_type": "bert"}},
    {"model_type": "qwen3_5", "text_config": []},
    {"model_type": "qwen3_5_text", "layer_types": ["linear_attention"] * 3},
    {"model_type": "mixtral", "num_local_experts": 0},
    {"model_type": "mixtral", "num_experts_per_tok": 99},
    {"model_type": "gpt_oss", "sliding_window": "far"},
    {"model_type": "llama", "quantization_config": {"quant_method": "nobody-knows"}},
]


@pytest.mark.parametrize("config", ODD, ids=json.dumps)
def test_an_odd_configuration_is_refused_or_judged(tmp_path: Path, config: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    try:
        judged = inspect_architecture(load_config(resolve_model(str(tmp_path))))
    except UserError as error:
        assert error.remedy
    else:
        assert judged.parameters > 0


@pytest.mark.parametrize("family", ["qwen3", "gemma4", "gpt_oss", "nemotron_h", "qwen3_5_images"])
def test_a_configuration_without_one_of_its_entries_is_refused_or_judged(tmp_path: Path, family: str) -> None:
    whole = FAMILIES[family]().to_dict()
    for name in [name for name in whole if name != "model_type"][::4]:
        (tmp_path / "config.json").write_text(json.dumps({**whole, name: None}, default=str))
        try:
            inspect_architecture(load_config(resolve_model(str(tmp_path))))
        except UserError as error:
            assert error.remedy
