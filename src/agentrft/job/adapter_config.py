"""PEFT's `adapter_config.json`, written so that every version of PEFT, and programs that never heard of it, read it.

Adapters of experts are the exception: PEFT before 0.19 lays them out otherwise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig

from agentrft.models.catalog import shared_name
from agentrft.models.experts import short_name

ADAPTER_CONFIG = "adapter_config.json"
# Readers ask for these, whether or not they are PEFT's defaults.
_ALWAYS = ("peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules")
# What transformers calls the text's part of a model that has others too.
TEXT_PART = "language_model"
# Says who wrote it; PEFT before 0.18 refuses it.
_NEVER = ("peft_version",)


def write_portable(path: Path, *, base: str | None = None) -> None:
    """Rewrite a configuration that PEFT wrote.

    An older PEFT refuses keys that it does not know, also those whose value changes nothing, so only what differs from
    PEFT's defaults stays. Paths of this machine's model caches become the names under which others have the model.

    Args:
        base: the base model's folder or hub id, where the configuration names another place.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(_portable(config, base), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _portable(config: Mapping[str, Any], base: str | None) -> dict[str, Any]:
    defaults = LoraConfig().to_dict()
    kept = {
        key: value
        for key, value in config.items()
        if key in _ALWAYS or (key not in _NEVER and not (key in defaults and defaults[key] == value))
    }
    named = base or config.get("base_model_name_or_path")
    kept["base_model_name_or_path"] = shared_name(named) if named else None
    kept["target_modules"] = _short(config["target_modules"])
    if parameters := config.get("target_parameters"):
        kept["target_parameters"] = _short_parameters(parameters)
    kept["inference_mode"] = True
    return kept


def _short_parameters(names: Sequence[str]) -> list[str]:
    """Their last two parts, `experts.down_proj`, unless there are others of these names beside the text's."""
    if any(TEXT_PART in name.split(".") for name in names):
        return sorted(names)
    return sorted(set(map(short_name, names)))


def _short(names: Sequence[str] | str) -> list[str] | str:
    """Instead of the full names of all layers their last parts, which every server takes.

    In a model of images and text too, where other parts have layers of these names, an expression for the text's.
    """
    if isinstance(names, str):
        return names
    last = sorted({name.rpartition(".")[2] for name in names})
    if not any(TEXT_PART in name.split(".") for name in names):
        return last
    return rf".*\b{TEXT_PART}\.(.*\.)?({'|'.join(map(re.escape, last))})"
