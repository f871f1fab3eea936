"""A model's weights and tokenizer in memory, from wherever the source says they are."""

import logging
from pathlib import Path
from threading import Lock
from typing import Literal

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # its HTTP library changes between the hub's versions
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from agentrft import wire
from agentrft.errors import UserError
from agentrft.models.auto import FAULTS_OF_CONFIGURATIONS, auto_class
from agentrft.models.catalog import BUILT_IN, ModelSource, accepted_models, is_complete
from agentrft.models.convert import ensure_smollm2, quiet_transformers
from agentrft.models.memory import keep_freed_memory
from agentrft.models.untrained import untrained_tokens, write_as_text
from agentrft.wire import WireError, is_object

logger = logging.getLogger(__name__)

HUB_TIMEOUT_S = 10.0
# More than any model has.
MOST_LAYERS = 1024
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]

# While transformers loads a model it replaces a method of its own base class. Two loads at once put it back in the
# wrong order, and from then on no model of the process has tied weights.
_loading = Lock()


def dtype_on(device: torch.device, name: Literal["auto", "bfloat16", "float32"]) -> torch.dtype:
    """What a job's `dtype` is on a device: "auto" is bfloat16 where the device multiplies it natively."""
    if name == "auto":
        is_fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if is_fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def load_config(source: ModelSource) -> PretrainedConfig:
    """The model's configuration, without its weights.

    Raises:
        UserError: the model cannot be had, or its configuration is none that transformers knows.
    """
    return config_in(model_folder(source), source)


def config_in(folder: Path, source: ModelSource) -> PretrainedConfig:
    """The configuration of the model that lies in a folder. Raises as `load_config`."""
    _refuse_endless(folder, source)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except FAULTS_OF_CONFIGURATIONS as error:
        raise _unusable(source, error) from error


def _refuse_endless(folder: Path, source: ModelSource) -> None:
    """Numbers of layers that no model has: reading such a configuration makes lists of that length."""
    try:
        given = wire.parse((folder / "config.json").read_bytes())
    except (OSError, WireError) as error:
        raise _unusable(source, error) from error
    parts = [given, *given.values()] if is_object(given) else []
    numbers = [number for part in parts if is_object(part) for name, number in part.items() if "layers" in name]
    if any(isinstance(number, int | float) and number > MOST_LAYERS for number in numbers):
        raise _unusable(source, ValueError(f"config.json: no model has more than {MOST_LAYERS} layers"))


def load_model(source: ModelSource, dtype: torch.dtype) -> PreTrainedModel:
    """The whole causal language model on the CPU, in evaluation mode.

    From here on the process keeps the memory that it frees: see `keep_freed_memory`.

    Raises:
        UserError: the model cannot be had, or its files are no causal language model.
    """
    keep_freed_memory()
    folder, kind = model_folder(source), auto_class(load_config(source))
    try:
        with _loading, quiet_transformers():
            model = kind.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(source, error) from error
    generation = model.generation_config
    if generation.eos_token_id is None:
        generation.eos_token_id = model.config.get_text_config(decoder=True).eos_token_id
    if generation.pad_token_id is None:
        end = generation.eos_token_id
        generation.pad_token_id = end[0] if isinstance(end, list) else end
    return model


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerFast:
    """The model's tokenizer, with its chat template.

    Raises:
        UserError: the model cannot be had, or it has no tokenizer or no chat template.
    """
    return load_tokenizer_and_texts(source)[0]


def load_tokenizer_and_texts(source: ModelSource) -> tuple[PreTrainedTokenizerFast, list[str]]:
    """`load_tokenizer`, and the tokens that are text in it: those that the template writes and the model never learned
    (see `models.untrained`).
    """
    folder = model_folder(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _unusable(source, error) from error
    if not tokenizer.chat_template:
        raise UserError(
            f"model: {source.name} has no chat template, so it cannot hold a conversation.",
            "Choose the instruct or chat variant of the model.",
        )
    try:
        untrained = untrained_tokens(tokenizer, str(tokenizer.chat_template), folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(source, error) from error
    if untrained:
        logger.info("%s never learned %s: written as text", source.name, ", ".join(untrained))
        write_as_text(tokenizer, untrained)
    return tokenizer, untrained


def model_folder(source: ModelSource) -> Path:
    """The local folder of the model's files: converted or downloaded first where need be.

    Raises:
        UserError: the model cannot be had; within seconds where the hub cannot be reached.
    """
    if source.name in BUILT_IN:
        return ensure_smollm2()
    if source.is_local:
        return Path(source.path_or_id)
    return _from_hub(source.path_or_id)


def _from_hub(model_id: str) -> Path:
    try:
        cached = Path(snapshot_download(model_id, local_files_only=True))
        if is_complete(cached):
            return cached
    except OSError:
        pass  # not in the cache
    try:
        # Asked first because a download retries for minutes, and this call fails at once.
        HfApi().model_info(model_id, timeout=HUB_TIMEOUT_S)
        return Path(snapshot_download(model_id, allow_patterns=HUB_FILES, etag_timeout=HUB_TIMEOUT_S))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"model: the Hugging Face hub has no model '{model_id}', or it needs a login (HF_TOKEN).",
            accepted_models(),
        ) from error
    except (HTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"model: '{model_id}' is not on this machine, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__}).",
            accepted_models(),
        ) from error


def _unusable(source: ModelSource, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"model: {source.name} cannot be loaded: {reason}", accepted_models())
