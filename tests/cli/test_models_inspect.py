"""`agentrft models inspect`: what a model is here, before anything is made of it."""

import json
from pathlib import Path

import pytest

from agentrft.models.catalog import built_in_folder
from tests.cli.commands import run_here
from tests.model_families import FAMILIES, REFUSED
from tests.models.test_untrained import make_model


def folder_with(config: object, folder: Path) -> Path:
    """A model's folder without weights: this configuration, and SmolLM2's tokenizer."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((built_in_folder("smollm2-135m") / name).read_bytes())
    config.save_pretrained(folder)  # pyright: ignore[reportAttributeAccessIssue]
    return folder


def test_the_built_in_model_is_said_to_be_what_it_is() -> None:
    ran = run_here("models", "inspect", "smollm2-135m", "--context", "2048", "--json")
    found = json.loads(ran.stdout)
    assert ran.code == 0 and not found["refused"]
    assert found["architecture"]["family"] == "llama" and found["architecture"]["path"] == "fast"
    assert found["architecture"]["parameters"] == 134_515_008
    assert found["chat"]["proven"] and found["chat"]["warm_start_refusal"] is None
    # 30 layers of 2 x 3 heads x 64 numbers of 2 bytes for each token, where this machine computes in bfloat16.
    assert found["memory"]["rollout"] in (30 * 2 * 3 * 64 * 2 * 2048, 30 * 2 * 3 * 64 * 4 * 2048)
    assert found["memory"]["fits"]


def test_another_gpu_than_this_machine_and_all_weights(tmp_path: Path) -> None:
    folder = folder_with(FAMILIES["qwen3_5"](), tmp_path / "model")
    small = run_here("models", "inspect", str(folder), "--gpu", "h100")
    assert small.code == 0 and "fits into 85 GB of h100" in small.stdout
    assert "1 layers of attention, 1 with a recurrent state" in small.stdout
    assert "transformers' modules" in small.stdout
    options = ("--gpu", "l4", "--context", "131072", "--lora-rank", "full", "--json")
    found = json.loads(run_here("models", "inspect", "smollm2-135m", *options).stdout)
    assert not found["memory"]["fits"] or found["memory"]["rollouts_at_once"] < 64
    assert found["memory"]["trained"] == 16 * 134_515_008


def test_what_all_weights_are_kept_in_and_what_a_checkpoint_takes_is_said() -> None:
    options = ("models", "inspect", "smollm2-135m", "--gpu", "h100", "--lora-rank")
    numbers = 134_515_008
    assert json.loads(run_here(*options, "full", "--json").stdout)["memory"]["state"] == {
        "all_weights": True,
        "dtype": "bfloat16",
        "weights": 2 * numbers,
        "masters": 4 * numbers,
        "gradients": 4 * numbers,
        "optimizer": 8 * numbers,
        "checkpoint": 14 * numbers,
        "checkpoint_interval": 8,
    }
    said = " ".join(run_here(*options, "full").stdout.split())
    assert "bfloat16 weights (0.269 GB) with float32 masters (0.538 GB)" in said
    assert "1.88 GB (masters, moments and bfloat16 weights), every 8 steps" in said
    assert ", every step, at validated steps" in " ".join(run_here(*options, "16").stdout.split())


@pytest.mark.parametrize("family", ["llama4", "gpt2", "bert"])
def test_what_cannot_be_trained_is_refused_with_what_to_take_instead(tmp_path: Path, family: str) -> None:
    config, reason = REFUSED[family]
    ran = run_here("models", "inspect", str(folder_with(config(), tmp_path / "model")))
    assert ran.code == 1
    assert "refused:" in ran.stdout and reason in ran.stdout and "docs/models.md" in ran.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpu", "h1000"), "Name one of 4090, 5090"),
        (("--lora-rank", "wide"), "expected `full` or a number"),
        (("--lora-rank", "0"), "expected `full` or a number"),
        (("--context", "3"), "64"),
    ],
)
def test_an_odd_option_is_an_error_that_says_what_is_accepted(options: tuple[str, ...], said: str) -> None:
    ran = run_here("models", "inspect", "smollm2-135m", *options)
    assert ran.code == 2 and said in ran.stderr


def test_tokens_that_it_never_learned_are_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>", "</tool_call>"))
    ran = run_here("models", "inspect", str(folder))
    assert "</tool_call>, <tool_call>, which the model never learned" in " ".join(ran.stdout.split())
    found = json.loads(run_here("models", "inspect", str(folder), "--json").stdout)
    assert found["written_as_text"] == ["</tool_call>", "<tool_call>"]
    assert json.loads(run_here("models", "inspect", "smollm2-135m", "--json").stdout)["written_as_text"] == []


def test_a_mixtures_adapters_and_its_experts_memory_are_told(tmp_path: Path) -> None:
    folder = folder_with(FAMILIES["qwen3_moe"](), tmp_path / "model")
    ran = run_here("models", "inspect", str(folder))
    assert "2 experts a token" in ran.stdout and "linear layers and on experts (lora_experts)" in ran.stdout
    found = json.loads(run_here("models", "inspect", str(folder), "--json").stdout)["architecture"]
    assert (found["experts_per_token"], found["lora_expert_parameters"]) == (2, 2 * 4 * (48 * 32 + 32 * 24))
