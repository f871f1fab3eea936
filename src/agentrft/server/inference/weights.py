"""The weights that a request names, from a checkpoint's files to a model that an engine runs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec
from agentrft.errors import UserError
from agentrft.job.checkpoint import ADAPTER, MODEL
from agentrft.job.references import ADAPTER_FILE
from agentrft.models import ModelSource, resolve_model
from agentrft.models.attention import use_planned_attention
from agentrft.models.forward import Forward, forward_of
from agentrft.models.load import load_model, load_tokenizer
from agentrft.models.merging import merged
from agentrft.spec.base import SpecModel

DEFAULT_CONTEXT_TOKENS = 2048
PEFT_PREFIX = "base_model.model."
# Fields of PEFT's configuration that change what an adapter computes, with the values under which it is plain LoRA.
_PLAIN_LORA: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None), "fan_in_fan_out": (False, None), "bias": ("none", None), "modules_to_save": (None, []),
    "rank_pattern": ({}, None), "alpha_pattern": ({}, None), "lora_bias": (False, None),
}  # fmt: skip


class Weights(SpecModel):
    """Which weights answer.

    Attributes:
        name: what error messages call them.
        base: what a job's `model:` says.
        folder: a checkpoint with `adapter/` or `model/`, or such a folder itself; None for the base model.
        max_context_tokens: None for the model's own.
    """

    name: str
    base: str
    folder: Path | None = None
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    max_context_tokens: int | None = Field(default=None, gt=0)

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for all names of the same weights."""
        return self.base, self.folder, self.dtype, self.max_context_tokens


@dataclass(frozen=True)
class LoadedModel:
    """A model that an engine can run, with what turns messages into its tokens and back."""

    forward: Forward
    codec: ChatCodec
    tokenizer: PreTrainedTokenizerFast
    max_context_tokens: int


def load_weights(weights: Weights) -> LoadedModel:
    """Load weights, an adapter merged into its base by the arithmetic of training and export.

    Raises:
        UserError: the files are missing, incomplete or of another model.
    """
    source = resolve_model(weights.base)
    tokenizer = load_tokenizer(source)
    codec = load_codec(tokenizer, source.path_or_id)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    folder = _files_of(weights)
    adapter = folder is not None and (folder / ADAPTER_FILE).is_file()
    own = source if folder is None or adapter else ModelSource(weights.name, str(folder), True, folder.name)
    model = load_model(own, _dtype(weights.dtype, device))
    model.to(device=device)  # pyright: ignore[reportCallIssue]  # transformers' wrapper hides the signature
    model.requires_grad_(False)
    longest = getattr(model.config, "max_position_embeddings", None)
    context = weights.max_context_tokens or longest or DEFAULT_CONTEXT_TOKENS
    if longest is not None and context > longest:
        raise UserError(
            f"{weights.name}: max_context_tokens={context} is more than the {longest} tokens of the model.",
            f"Set max_context_tokens to at most {longest}.",
        )
    use_planned_attention(model, max_context_tokens=context)
    forward = forward_of(model)
    if folder is not None and adapter:
        _merge(model, forward, folder)
    return LoadedModel(forward, codec, tokenizer, context)


def _files_of(weights: Weights) -> Path | None:
    if weights.folder is None:
        return None
    for part in (weights.folder / ADAPTER, weights.folder / MODEL, weights.folder):
        if any(part.glob("*.safetensors")):
            return part
    raise UserError(f"{weights.name}: there are no weights in {weights.folder}.", "The checkpoint may be deleted.")


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """As a job's `dtype`: "auto" is bfloat16 where the device is fast at it."""
    if name == "auto":
        fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _merge(model: PreTrainedModel, forward: Forward, folder: Path) -> None:
    """Write base plus adapter into `forward`."""
    scale, state = _read_adapter(folder)
    try:
        for name in sorted(key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")):
            weight = f"{name.removeprefix(PEFT_PREFIX)}.weight"
            frozen = model.get_parameter(weight)
            down, up = (state.pop(f"{name}.lora_{part}.weight").to(frozen) for part in "AB")
            forward.write(weight, merged(frozen, up, down, scale))
    except (AttributeError, KeyError, RuntimeError) as error:
        raise UserError(f"{folder}: the adapter does not fit its base model: {error}", _REMEDY) from error
    if state:
        raise UserError(f"{folder}: the adapter has weights that are no LoRA: {sorted(state)[0]}", _REMEDY)


def _read_adapter(folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """The factor on the adapter's product, and its weights by PEFT's names."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        state = load_file(folder / ADAPTER_FILE)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder}: the adapter cannot be read: {error}", _REMEDY) from error
    for name, plain in _PLAIN_LORA.items():
        if config.get(name) not in plain:
            raise UserError(f"{folder}: {name}={config[name]!r} is no plain LoRA.", _REMEDY)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank), state


_REMEDY = "Name the checkpoint of a job of this base model."
