"""The configuration of adapters that leave this machine: any PEFT takes it, and it has none of this machine's paths."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel

from agentrft.job.adapter_config import write_portable
from agentrft.job.checkpoint import save_weights
from agentrft.job.export import describe_weights
from agentrft.job.references import ModelReference
from agentrft.learner import Policy
from agentrft.models.catalog import built_in_folder
from agentrft.models.forward import TransformersForward
from tests.tiny_model import tiny_model

# The fields of LoRA's configuration in PEFT 0.4, of July 2023.
OLDEST = {
    *("peft_type", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "r"),
    *("target_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "modules_to_save"),
    *("init_lora_weights", "layers_to_transform", "layers_pattern"),
}


def rewritten(folder: Path, base: str | None = None, **fields: Any) -> dict[str, Any]:
    LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM").save_pretrained(str(folder))
    path = folder / "adapter_config.json"
    written = {"target_modules": ["model.layers.0.q_proj", "model.layers.1.q_proj", "v_proj"], **fields}
    path.write_text(json.dumps(json.loads(path.read_text()) | written))
    write_portable(path, base=base)
    return json.loads(path.read_text())


def test_only_what_readers_need_or_what_differs_is_written(tmp_path: Path) -> None:
    config = rewritten(tmp_path, base_model_name_or_path="org/model")
    assert config == {
        "base_model_name_or_path": "org/model",
        "inference_mode": True,
        "lora_alpha": 8,
        "peft_type": "LORA",
        "r": 4,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    assert config.keys() <= OLDEST


def test_what_differs_from_a_default_stays_also_where_the_rank_is_the_default(tmp_path: Path) -> None:
    config = rewritten(tmp_path, base_model_name_or_path="org/model", use_rslora=True, r=8, peft_version="0.1.0")
    assert config["use_rslora"] is True and config["r"] == 8 and "peft_version" not in config


@pytest.mark.parametrize(
    ("base", "written"),
    [
        ("/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de", "Qwen/Qwen3-0.6B"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        (str(built_in_folder("smollm2-135m")), "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("/data/own-model", "/data/own-model"),
    ],
)
def test_the_base_model_has_the_name_that_others_know(tmp_path: Path, base: str, written: str) -> None:
    assert rewritten(tmp_path, base_model_name_or_path=base)["base_model_name_or_path"] == written
    assert rewritten(tmp_path, base, base_model_name_or_path="x")["base_model_name_or_path"] == written


def test_a_checkpoints_adapter_is_portable_too_and_peft_loads_it(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.planned.name_or_path = str(built_in_folder("smollm2-135m"))
    policy = Policy(model.planned, lora_rank=4, seed=0)
    with torch.no_grad():
        for master in policy.masters:
            master += 0.05
    policy.publish_masters()
    save_weights(tmp_path, policy)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(text).keys() <= OLDEST and str(Path.home()) not in text

    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        before = model.plain(ids).logits.clone()
        merged = copy.deepcopy(model.plain)
        policy.write_to(TransformersForward(merged))
        expected = merged(ids).logits
        loaded = PeftModel.from_pretrained(model.plain, str(tmp_path / "adapter"))
        assert torch.allclose(loaded(ids).logits, expected, atol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)
    config = loaded.peft_config["default"]
    defaults = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")
    changed = {
        field.name
        for field in dataclasses.fields(defaults)
        if getattr(config, field.name) != getattr(defaults, field.name)
    }
    assert changed <= {"target_modules", "inference_mode", "base_model_name_or_path"}
    # Named by its folder alone, the adapter is the built-in model's.
    assert describe_weights(ModelReference("x", folder=tmp_path), None).model == "smollm2-135m"
