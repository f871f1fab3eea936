"""A checkpoint's LoRA adapter, from PEFT's files onto the base model: beside others, or merged into a copy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from agentrft.errors import UserError
from agentrft.job.references import ADAPTER_FILE
from agentrft.models.experts import merged_experts, short_name, stacked_weights
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
    "lora_bias": (False, None),
}
_REMEDY = "Name the checkpoint of a job of this base model."


class _Config(BaseModel):
    """The fields of PEFT's configuration that are read here, with their types; the others as they are."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    r: Annotated[int, Field(ge=1)]
    lora_alpha: float
    target_parameters: list[str] | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None


@dataclass(frozen=True)
class AdapterFiles:
    """What the files say.

    Attributes:
        scale: the factor on each product of `up` and `down`.
        layers: down [rank, in] and up [out, rank] by the name that the layer has in the base model.
        experts: those of experts' weights, by the name of the module that has them. PEFT names the weight that it
            adapted last by the module, the one before by `base_layer` in it, and so on.
    """

    scale: float
    layers: dict[str, tuple[Tensor, Tensor]]
    experts: dict[str, list[tuple[Tensor, Tensor]]]


def load_adapter(folder: Path, base: PackedModel) -> LoraAdapter:
    """An adapter that is computed on top of `base`, which is only read.

    Raises:
        UserError: the files cannot be read, are no plain LoRA with finite numbers, or do not fit the base model.
    """
    files = read_adapter(folder)
    try:
        if files.experts:
            raise ValueError(f"it changes experts ({min(files.experts)})")
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
        for name, adapters in sorted(files.experts.items()):
            module = model.get_submodule(name)
            for weight, (down, up) in zip(stacked_weights(module), reversed(adapters), strict=True):
                changed = merged_experts(module, weight, down, up, files.scale)
                forward.write(f"{name}.{weight}", changed)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise _unfitting(folder, error) from error


def read_adapter(folder: Path) -> AdapterFiles:
    """The files of a plain LoRA adapter.

    Raises:
        UserError: they cannot be read, or are not that.
    """
    try:
        config = _Config.model_validate_json((folder / "adapter_config.json").read_bytes()).model_dump()
        rank, alpha = config["r"], config["lora_alpha"]
        state = load_file(folder / ADAPTER_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: the adapter cannot be read: {error}", _REMEDY) from error
    for name, plain in _PLAIN_LORA.items():
        if config.get(name) not in plain:
            raise UserError(f"{folder}: {name}={config[name]!r} is no plain LoRA.", _REMEDY)
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    experts = _expert_modules(folder, config)
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    of_experts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    # A name comes before those that go on after it: the weight that was adapted last before the others.
    for name in sorted(key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")):
        down, up = state.pop(f"{name}.lora_A.weight"), state.pop(f"{name}.lora_B.weight", None)
        part = name.removeprefix(PEFT_PREFIX)
        module = part.replace(".base_layer", "")
        is_expert = module.rpartition(".")[2] in experts
        if up is None or not (is_expert or len(down) == rank):
            raise UserError(f"{folder}: {name} is no LoRA of rank {rank}.", _REMEDY)
        # One that is not finite would reach the rows of other adapters in the same pass.
        if not bool(torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise UserError(f"{folder}: {name} has values that are no finite numbers.", "Choose an earlier checkpoint.")
        if is_expert:
            of_experts.setdefault(module, []).append((down, up))
        else:
            layers[part] = down, up
    if state:
        raise UserError(f"{folder}: the adapter has weights that are no LoRA: {sorted(state)[0]}", _REMEDY)
    return AdapterFiles(scale, layers, of_experts)


def _expert_modules(folder: Path, config: Mapping[str, Any]) -> set[str]:
    """What modules of experts are called. Their adapters have a rank of their own, and the scale of all.

    Raises:
        UserError: others have a rank of their own, or a scale is another.
    """
    # A layer's own weight is adapted as the layer is.
    parameters = [name for name in config["target_parameters"] or [] if not name.endswith(".weight")]
    ranks, alphas = config["rank_pattern"] or {}, config["alpha_pattern"] or {}
    ends = set(map(short_name, parameters))
    same = ranks.keys() == alphas.keys() and all(
        alphas[name] * config["r"] == ranks[name] * config["lora_alpha"] for name in ranks
    )
    if not (ranks.keys() <= ends and same) or (ranks and config.get("use_rslora")):
        raise UserError(f"{folder}: rank_pattern={ranks!r} is no plain LoRA.", _REMEDY)
    return {end.split(".")[0] for end in ends}


def _unfitting(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: the adapter does not fit its base model: {error}", _REMEDY)
