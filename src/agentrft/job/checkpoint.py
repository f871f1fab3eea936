"""Checkpoints: all that the next step depends on, in a folder that is either whole or not there.

The data cursor and all random numbers are functions of the job's seed and the step, so nothing else is needed.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from agentrft.errors import UserError
from agentrft.job.adapter_config import ADAPTER_CONFIG, write_portable
from agentrft.learner import Policy
from agentrft.learner.optimizer import PolicyOptimizer
from agentrft.store import Artifacts
from agentrft.store.files import sync
from agentrft.store.layout import ADAPTER, MODEL, STATE, STEP_PREFIX, WARM_PREFIX, checkpoints_folder


def save_checkpoint(folder: Path, learner: PolicyOptimizer, *, weights: bool = True) -> None:
    """Write a checkpoint; a folder of the same name is replaced.

    Args:
        weights: also write the adapter or model in its own format, for export.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.save(learner.state(), partial / STATE)
    if weights:
        save_weights(partial, learner.policy)
    # The record says that the step is done, power cut or not, so its files must be on the disk before.
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    sync(folder.parent)


def save_weights(folder: Path, policy: Policy) -> None:
    """The policy as `adapter/` (LoRA) or `model/` (all weights)."""
    model = policy.model
    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
        write_portable(folder / ADAPTER / ADAPTER_CONFIG)
        # A form with nothing filled in but this machine's path of the base model.
        (folder / ADAPTER / "README.md").unlink(missing_ok=True)
    elif isinstance(model, PreTrainedModel):
        model.save_pretrained(str(folder / MODEL), state_dict=policy.saved_weights())


def load_state(folder: Path) -> dict[str, Any]:
    """The learner's state.

    Raises:
        UserError: the checkpoint is not there.
    """
    path = folder / STATE
    if not path.is_file():
        found = sorted(p.name for p in folder.parent.glob("step-*")) or ["none"]
        raise UserError(f"there is no checkpoint {folder}.", f"Checkpoints of this job: {', '.join(found)}.")
    return torch.load(path, map_location="cpu", weights_only=True)


def remove_partial(job_folder: Path) -> None:
    """Delete what a killed process left of checkpoints that it was writing. Call while holding the job's lock."""
    for path in checkpoints_folder(job_folder).glob(".*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def prune(job_folder: Path, keep_steps: set[int], artifacts: Artifacts) -> None:
    """Delete the step checkpoints that are not in `keep_steps`, and those of a warm start that is over."""
    _delete(job_folder, STEP_PREFIX, keep_steps, artifacts)
    if keep_steps:
        prune_warm_start(job_folder, None, artifacts)


def prune_warm_start(job_folder: Path, keep: int | None, artifacts: Artifacts) -> None:
    """Delete the checkpoints of the warm start but that of batch `keep`."""
    _delete(job_folder, WARM_PREFIX, {keep}, artifacts)


def _delete(job_folder: Path, prefix: str, keep: Collection[int | None], artifacts: Artifacts) -> None:
    folder = checkpoints_folder(job_folder)
    for name in list(artifacts.entries(folder)):
        if name.startswith(prefix) and int(name.removeprefix(prefix)) not in keep:
            artifacts.delete(folder / name)
