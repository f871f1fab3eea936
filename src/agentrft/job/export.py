"""Trained weights in the formats that other programs take: PEFT's adapter, or a whole model without agentrft.

A merged model is made by the same arithmetic as the engine's weights: the base in the job's data type, the adapter's
change in float32, their sum rounded once. So it answers as the policy did.
"""

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedTokenizerFast

from agentrft.chat import load_codec
from agentrft.chat.chatml import ChatMLToolRenderer
from agentrft.chat.template_defaults import Scalar, with_defaults
from agentrft.errors import UserError
from agentrft.job.adapter_config import ADAPTER_CONFIG, write_portable
from agentrft.job.references import ADAPTER_FILE, ModelReference
from agentrft.learner import Policy
from agentrft.models import resolve_model
from agentrft.models.catalog import own_name, shared_name
from agentrft.models.convert import quiet_transformers
from agentrft.models.forward import TransformersForward
from agentrft.models.load import load_model, load_tokenizer
from agentrft.store import JobStore
from agentrft.store.layout import ADAPTER, MODEL

TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True)
class TrainedWeights:
    """Weights that can be exported.

    Attributes:
        folder: with the adapter's or the model's safetensors.
        model: what the job's `model:` says, or the base model that an adapter names.
        base: the base model's hub id, or the folder of one that is the user's own, as other programs take it.
        lora_rank: None where all weights were trained.
        lora_experts: whether the adapter changes experts.
        chat_template_kwargs: variables of the chat template that it was trained with.
        dtype: of the job's model.
    """

    reference: ModelReference
    folder: Path
    model: str
    base: str
    lora_rank: int | None
    lora_experts: bool
    dtype: torch.dtype
    chat_template_kwargs: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])

    @property
    def label(self) -> str:
        return self.reference.label


def describe_weights(
    reference: ModelReference,
    store: JobStore | None,
    *,
    model: str | None = None,
    chat_template_kwargs: Mapping[str, Scalar] | None = None,
) -> TrainedWeights:
    """What a reference's weights were trained from, read from its files.

    Args:
        model, chat_template_kwargs: what the job says, where there is no store to look it up in.

    Raises:
        UserError: the reference is the base model, or its files are incomplete.
    """
    if reference.folder is None:
        raise UserError(
            "'base' is not trained: there is nothing to export.", "Name a job, as `agentrft jobs` lists them."
        )
    parts = [reference.folder / ADAPTER, reference.folder / MODEL, reference.folder]
    folder = next((part for part in parts if any(part.glob("*.safetensors"))), None)
    if folder is None:
        raise UserError(f"{reference.folder}: there are no weights to export.", "Name another step: JOB@STEP.")
    rank, experts, named = None, False, ""
    if (folder / ADAPTER_CONFIG).is_file():
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        rank, experts = config["r"], bool(config.get("target_parameters"))
        named = own_name(str(config["base_model_name_or_path"]))
    job = store.get_job(reference.job_id) if store and reference.job_id else None
    if model is None:
        model = named if job is None else job.model
    if chat_template_kwargs is None:
        chat_template_kwargs = {} if job is None else job.setting("chat_template_kwargs") or {}
    source = resolve_model(model)
    base = shared_name(source.path_or_id)
    with safe_open(next(folder.glob("*.safetensors")), framework="pt") as file:
        dtype = file.get_tensor(next(iter(file.keys()))).dtype
    return TrainedWeights(reference, folder, model, base, rank, experts, dtype, chat_template_kwargs or {})


def export_adapter(weights: TrainedWeights, out: Path) -> list[str]:
    """Write the adapter for PEFT and for vLLM's `--enable-lora`, with the tokenizer. Returns the files' names.

    Raises:
        UserError: all weights were trained, or `out` holds something.
    """
    if weights.lora_rank is None:
        raise UserError(
            f"{weights.label} has no adapter: the job trained all weights (lora_rank: full).", "Use --format merged."
        )

    def write(folder: Path) -> None:
        shutil.copyfile(weights.folder / ADAPTER_CONFIG, folder / ADAPTER_CONFIG)
        write_portable(folder / ADAPTER_CONFIG, base=weights.base)
        shutil.copyfile(weights.folder / ADAPTER_FILE, folder / ADAPTER_FILE)
        _tokenizer(weights).save_pretrained(folder)

    return _write_new(out, write)


def export_merged(weights: TrainedWeights, out: Path) -> list[str]:
    """Write a whole model with its tokenizer, chat template and generation settings. Returns the files' names.

    Raises:
        UserError: the base model cannot be had or does not fit, or `out` holds something.
    """

    def write(folder: Path) -> None:
        source = resolve_model(weights.model)
        merged = load_model(source, weights.dtype)
        policy = Policy(copy.deepcopy(merged), lora_rank=weights.lora_rank, lora_experts=weights.lora_experts, seed=0)
        weights.reference.apply(policy)
        policy.write_to(TransformersForward(merged))
        merged.save_pretrained(folder)
        _tokenizer(weights).save_pretrained(folder)

    return _write_new(out, write)


def _tokenizer(weights: TrainedWeights) -> PreTrainedTokenizerFast:
    """The tokenizer, with a template that writes the prompts that the policy was trained on, whoever renders it: that
    of an exported adapter; one for our ChatML renderer, where it was the policy's; the model's own, with the job's
    variables as its defaults.
    """
    source, variables = resolve_model(weights.model), weights.chat_template_kwargs
    tokenizer = load_tokenizer(source)
    exported = weights.folder / TEMPLATE_FILE
    if exported.is_file():
        tokenizer.chat_template = exported.read_text(encoding="utf-8")
    elif isinstance(load_codec(tokenizer, source.path_or_id, template_kwargs=variables).renderer, ChatMLToolRenderer):
        tokenizer.chat_template = (files("agentrft.chat") / "chatml.jinja").read_text(encoding="utf-8")
    elif variables:
        given: Any = tokenizer.chat_template
        several = given if isinstance(given, dict) else {"": given}
        changed = {name: with_defaults(template, variables) for name, template in several.items()}
        tokenizer.chat_template = changed if isinstance(given, dict) else changed[""]
    return tokenizer


def _write_new(out: Path, write: Callable[[Path], None]) -> list[str]:
    """Run `write` on a folder beside `out`, then rename it, so that `out` is never half written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already and is not empty.", "Name a new folder with --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with quiet_transformers():
        write(partial)
    for path in partial.iterdir():
        path.chmod(0o644)
    if out.is_dir():
        out.rmdir()
    partial.rename(out)
    return sorted(path.name for path in out.iterdir())
