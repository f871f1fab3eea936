"""Of a model what a plan needs: its architecture, from a configuration alone, wherever that is at hand."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

from agentrft.errors import UserError
from agentrft.models.architecture import Architecture, inspect_architecture
from agentrft.models.auto import FAULTS_OF_CONFIGURATIONS
from agentrft.models.catalog import resolve_model
from agentrft.models.costs import PassCosts
from agentrft.models.load import MOST_LAYERS
from agentrft.models.local_files import json_in, local_folder
from agentrft.planning.known_models import KNOWN_CONFIGS
from agentrft.wire import is_object


@dataclass(frozen=True)
class PlannedModel:
    """One model in a data type.

    Attributes:
        name: as the job has it.
        architecture: of it.
        lora_rank: None trains all weights.
        lora_experts: whether experts get adapters.
    """

    name: str
    architecture: Architecture
    lora_rank: int | None
    lora_experts: bool = True

    @property
    def costs(self) -> PassCosts:
        """Of a pass over each token, adapters included."""
        return self.architecture.training_costs(self.lora_rank, lora_experts=self.lora_experts)

    @property
    def itemsize(self) -> int:
        return self.architecture.costs.itemsize

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.itemsize == torch.bfloat16.itemsize else torch.float32

    @property
    def weights(self) -> int:
        """Bytes of all of them, once."""
        return self.architecture.parameters * self.itemsize

    @cached_property
    def trained(self) -> int:
        """How many numbers are trained."""
        return self.architecture.trained_parameters(self.lora_rank, lora_experts=self.lora_experts)

    @property
    def can_shard_base(self) -> bool:
        """Whether ranks can have a part of the frozen weights each: where there are any, and they are no experts."""
        return self.lora_rank is not None and self.architecture.experts is None

    @property
    def kv_bytes(self) -> int:
        """That a token adds to keys and values."""
        return self.architecture.cache_shapes.elements_per_token * self.itemsize

    @property
    def head_weights(self) -> int:
        """Of the output head."""
        return self.costs.width * self.costs.vocabulary


def planned_model(
    name: str, config_file: Path | None, *, dtype: torch.dtype, lora_rank: int | None, lora_experts: bool = True
) -> PlannedModel:
    """The model that a job names, from the first configuration that is found: the given file, the model's own files on
    this machine, or what is known of common models. Nothing is downloaded.

    Raises:
        UserError: there is none, or what it describes cannot be computed.
    """
    architecture = inspect_architecture(_config(name, config_file), dtype)
    return PlannedModel(name, architecture, lora_rank, lora_experts)


def _config(name: str, config_file: Path | None) -> PretrainedConfig:
    if config_file is not None:
        path = config_file / "config.json" if config_file.is_dir() else config_file
        given = json_in(path)
        if not is_object(given):
            raise UserError(f"--config: {path} is no JSON object.", "Give a model's config.json, or its folder.")
        return _made(given, str(path))
    if name in KNOWN_CONFIGS:
        return _made(KNOWN_CONFIGS[name], name)
    folder = local_folder(resolve_model(name))
    found = None if folder is None else json_in(folder / "config.json")
    if not is_object(found):
        raise UserError(
            f"model: nothing on this machine says what shape '{name}' has, and a plan downloads nothing.",
            f"Give its configuration with --config config.json. Known without one: {', '.join(KNOWN_CONFIGS)}.",
        )
    return _made(found, name)


def _made(given: dict[str, Any], source: str) -> PretrainedConfig:
    fields = dict(given)
    kind = fields.pop("model_type", None)
    counts = [fields, *(part for part in fields.values() if is_object(part))]
    numbers = [number for part in counts for field, number in part.items() if "layers" in field]
    if any(isinstance(number, int | float) and number > MOST_LAYERS for number in numbers):
        raise UserError(f"{source}: no model has more than {MOST_LAYERS} layers.", "Give a model's config.json.")
    if not isinstance(kind, str):
        raise UserError(f"{source} has no `model_type`, so it is no model's configuration.", "Give its config.json.")
    try:
        return AutoConfig.for_model(kind, **fields)
    except FAULTS_OF_CONFIGURATIONS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source} is no configuration that transformers reads: {reason}", "Give another.") from error
