"""The shapes of common models, against the numbers of parameters that their makers publish."""

from pathlib import Path

import pytest
import torch

from agentrft.errors import UserError
from agentrft.planning.known_models import KNOWN_CONFIGS
from agentrft.planning.model import planned_model

PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
}
SAME = {"HuggingFaceTB/SmolLM2-135M-Instruct", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"}


def test_every_known_model_is_held_to_its_number() -> None:
    assert set(PARAMETERS) | SAME == set(KNOWN_CONFIGS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_known_model_has_as_many_parameters_as_its_maker_says(name: str) -> None:
    model = planned_model(name, None, dtype=torch.bfloat16, lora_rank=None)
    assert model.architecture.parameters == model.trained == PARAMETERS[name]
    assert model.architecture.path == "fast"


def test_a_model_that_is_neither_here_nor_known_needs_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a plan downloads nothing") as raised:
        planned_model("nobody/has-this", None, dtype=torch.bfloat16, lora_rank=16)
    assert "--config" in raised.value.remedy and "Qwen/Qwen3-8B" in raised.value.remedy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ("{}", "no `model_type`"),
        ('{"model_type": "no-such-family"}', "no configuration that transformers reads"),
        ('{"model_type": "llama", "num_hidden_layers": 1000000000}', "no model has more than"),
        ('{"model_type": "llama", "hidden_size": -3}', "no configuration that transformers reads"),
    ],
)
def test_an_odd_configuration_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        planned_model("Qwen/Qwen3-8B", path, dtype=torch.bfloat16, lora_rank=16)


def test_a_given_configuration_comes_before_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,'
        ' "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": true}'
    )
    model = planned_model("Qwen/Qwen3-8B", tmp_path, dtype=torch.float32, lora_rank=4)
    # Keys and values of 2 heads of 16, in 2 layers, 4 bytes each.
    assert model.kv_bytes == 2 * 2 * 2 * 16 * 4
    layer = 64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128
    assert model.costs.weights == 2 * layer and model.weights == 4 * (2 * (layer + 2 * 64) + 100 * 64 + 64)
