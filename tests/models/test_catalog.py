from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import scan_cache_dir
from safetensors.torch import save

from agentrft.errors import UserError
from agentrft.models import catalog, list_models, resolve_model
from agentrft.models.catalog import SMOLLM2_PARAMETERS, cache_folder, count_parameters, own_name, shared_name


def test_the_built_in_model_lies_in_the_cache(empty_cache: Path) -> None:
    source = resolve_model("smollm2-135m")
    assert source.is_local
    assert source.path_or_id == str(empty_cache / "models" / "smollm2-135m")
    assert source.public_name == "smollm2-135m"


def test_a_folder_with_a_configuration_is_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    source = resolve_model(str(folder))
    assert (source.path_or_id, source.is_local, source.public_name) == (str(folder), True, "tuned")


def test_a_models_folder_in_a_cache_has_the_name_that_others_know(empty_cache: Path) -> None:
    hub = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert shared_name(resolve_model("smollm2-135m").path_or_id) == hub
    assert shared_name("smollm2-135m") == hub
    assert own_name(hub) == "smollm2-135m"
    assert shared_name("/root/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de2") == "Qwen/Qwen3-0.6B"
    for same in ("Qwen/Qwen3-0.6B", "/data/models/tuned", "/data/models--a--b/snapshots/c/deeper"):
        assert shared_name(same) == own_name(same) == same


def test_a_hugging_face_id_is_not_looked_up_yet() -> None:
    source = resolve_model("Qwen/Qwen3-0.6B")
    assert (source.path_or_id, source.is_local, source.public_name) == ("Qwen/Qwen3-0.6B", False, "Qwen/Qwen3-0.6B")


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "~/absent-model", "gpt", "a/b/c", ""])
def test_what_is_no_model_is_refused_with_what_would_be_one(name: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_model(name)
    assert "`model:` takes 'smollm2-135m'" in error.value.remedy
    assert "Hugging Face id" in error.value.remedy


def test_a_misspelt_built_in_model_is_recognised() -> None:
    with pytest.raises(UserError, match="Did you mean 'smollm2-135m'"):
        resolve_model("SmolLM-135M")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no config.json"):
        resolve_model(str(tmp_path))


def test_an_adapter_alone_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="LoRA adapter only"):
        resolve_model(str(tmp_path))


def test_the_built_in_model_is_listed_before_it_was_unpacked(empty_cache: Path) -> None:
    first = list_models()[0]
    assert (first.name, first.path, first.cached, first.parameters) == (
        "smollm2-135m",
        None,
        False,
        SMOLLM2_PARAMETERS,
    )


def test_the_unpacked_model_is_listed_with_its_folder_and_true_size(cache: Path) -> None:
    first = list_models()[0]
    assert first.cached
    assert first.path == cache / "models" / "smollm2-135m"
    assert count_parameters(first.path) == first.parameters


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, (8).to_bytes(8, "little") + b"[[[[[[[[", b"<html>not found</html>"]
)
def test_a_damaged_model_of_the_hubs_cache_is_left_out_and_others_are_listed(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(catalog, "scan_cache_dir", partial(scan_cache_dir, tmp_path / "hub"))
    whole = save({"weight": torch.zeros(2, 3)})
    for name, weights in (("damaged", content), ("whole", whole)):
        folder = tmp_path / "hub" / f"models--org--{name}" / "snapshots" / "c1899de2"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
    assert [(model.name, model.parameters) for model in list_models()[1:]] == [("org/whole", 6)]
    with pytest.raises(UserError):
        resolve_model("no model")


def test_the_cache_is_the_users_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTRFT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "agentrft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "agentrft"
