"""A checkpoint's LoRA adapter, from PEFT's files onto the base model: beside others, or merged into a copy."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from agentrft.errors import UserError
from agentrft.job.references import ADAPTER_FILE
from agentrft.models.forward import Forward
from agentrft.models.lora import LoraAdapter
from agentrft.models.merging import merged
from agentrft.models.packed import PackedModel

PEFT_PREFIX = "base_model.model."
# Fields of PEFT's configuration that change what an adapter computes, with the values under which it is plain LoRA.
_PLAIN_LORA: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "lora_bias": (False, None),
}
_REMEDY = "Name the checkpoint of a job of this base model."


@dataclass(frozen=True)
class AdapterFiles:
    """What the files say.

    Attributes:
        scale: the factor on each product of `up` and `down`.
        layers: down [rank, in] and up [out, rank] by the name that the layer has in the base model.
    """

    scale: float
    layers: dict[str, tuple[Tensor, Tensor]]


def load_adapter(folder: Path, base: PackedModel) -> LoraAdapter:
    """An adapter that is computed on top of `base`, which is only read.

    Raises:
        UserError: the files cannot be read, are no plain LoRA with finite numbers, or do not fit the base model.
    """
    files = read_adapter(folder)
    try:
        return base.lora(files.layers, files.scale)
    except ValueError as error:
        raise _unfitting(folder, error) from error


def merge_adapter(model: PreTrainedModel, forward: Forward, folder: Path) -> None:
    """Write base plus adapter into `forward`.

    Raises:
        UserError: as `load_adapter`.
    """
    files = read_adapter(folder)
    try:
        for name, (down, up) in sorted(files.layers.items()):
            frozen = model.get_parameter(f"{name}.weight")
            forward.write(f"{name}.weight", merged(frozen, up.to(frozen), down.to(frozen), files.scale))
    except (AttributeError, KeyError, RuntimeError) as error:
        raise _unfitting(folder, error) from error


def read_adapter(folder: Path) -> AdapterFiles:
    """The files of a plain LoRA adapter.

    Raises:
        UserError: they cannot be read, or are not that.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        state = load_file(folder / ADAPTER_FILE)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder}: the adapter cannot be read: {error}", _REMEDY) from error
    for name, plain in _PLAIN_LORA.items():
        if config.get(name) not in plain:
            raise UserError(f"{folder}: {name}={config[name]!r} is no plain LoRA.", _REMEDY)
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    for name in sorted(key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")):
        down, up = state.pop(f"{name}.lora_A.weight"), state.pop(f"{name}.lora_B.weight", None)
        if up is None or len(down) != rank:
            raise UserError(f"{folder}: {name} is no LoRA of rank {rank}.", _REMEDY)
        # One that is not finite would reach the rows of other adapters in the same pass.
        if not bool(torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise UserError(f"{folder}: {name} has values that are no finite numbers.", "Choose an earlier checkpoint.")
        layers[name.removeprefix(PEFT_PREFIX)] = down, up
    if state:
        raise UserError(f"{folder}: the adapter has weights that are no LoRA: {sorted(state)[0]}", _REMEDY)
    return AdapterFiles(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank), layers)


def _unfitting(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: the adapter does not fit its base model: {error}", _REMEDY)
