"""Naming weights: `base`, a job, a step of it, or the folder of an exported adapter."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from agentrft.errors import UserError
from agentrft.job.checkpoint import load_state
from agentrft.learner import Policy
from agentrft.learner.policy import LORA_ALPHA_PER_RANK
from agentrft.spec import BaseJobSpec, JobSpec
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import step_folder
from agentrft.store.rows import as_mapping

BASE = "base"
ADAPTER_FILE = "adapter_model.safetensors"
JOB_REFERENCE = re.compile(r"(?P<job>[A-Za-z0-9-]+)(@(?P<step>best|last|[0-9]{1,9}))?")


@dataclass(frozen=True)
class ModelReference:
    """Weights that can be evaluated: a job's step, an adapter's folder, or neither: the base model.

    Attributes:
        label: what reports call it, such as "ftjob-abc@12".
        job_id: of the job, where it is one's.
        step: of that job; 0 is the warm start.
        folder: with the weights; None is the base model.
    """

    label: str
    job_id: str | None = None
    step: int | None = None
    folder: Path | None = None

    def apply(self, policy: Policy) -> None:
        """Load the weights into a policy.

        Raises:
            UserError: they belong to a model of another shape, or to another kind of training.
        """
        if self.folder is None:
            return
        version = 0
        if (self.folder / ADAPTER_FILE).is_file():
            state = _adapter_state(self.folder)
        else:
            checkpoint = load_state(self.folder)
            state, version = checkpoint["masters"], checkpoint["policy_version"]
        try:
            policy.load_master_state(state)
            policy.version = version
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.label}: these weights do not fit the job's model: {error}",
                "Use a job of the same model, the same lora_rank and the same lora_experts.",
            ) from error


def starting_point(spec: BaseJobSpec) -> ModelReference:
    """The weights that a job begins with."""
    return ModelReference(BASE) if spec.start_from is None else ModelReference("start_from", folder=spec.start_from)


def resolve_reference(text: str, store: JobStore | None) -> ModelReference:
    """Find what `text` names.

    Args:
        text: `base`; `JOB` or `JOB@best` (the job's result), `JOB@last`, `JOB@7` (`JOB@0` is the warm start), where JOB
            is an id, a prefix of one, or `latest`; or the path of a folder with an exported adapter.
        store: where jobs are looked for; None where there are none.

    Raises:
        UserError: there is no such thing.
    """
    if text == BASE:
        return ModelReference(BASE)
    path = Path(text)
    if (path / ADAPTER_FILE).is_file():
        return ModelReference(str(path), folder=path)
    match = JOB_REFERENCE.fullmatch(text)
    if match is None or store is None:
        raise UserError(
            f"'{text}' names no weights.",
            "Write `base`, a job's id, JOB@best, JOB@last, JOB@STEP (0 is the warm start) or an adapter's folder.",
        )
    job = store.find_job(match["job"])
    steps = sorted(store.checkpoints(job.job_id))
    if not steps:
        raise UserError(f"job {job.job_id} has no checkpoint yet.", "Wait for its first step, or resume it.")
    wanted = match["step"] or "best"
    if wanted == "best":
        step = steps[-1] if job.best_step is None else job.best_step
    else:
        step = steps[-1] if wanted == "last" else int(wanted)
    if step not in steps:
        shown = ", ".join(map(str, steps))
        raise UserError(
            f"job {job.job_id} has no checkpoint of step {step}{_cadence(job)}.", f"Name one that it has: {shown}."
        )
    folder = step_folder(store.job_folder(job.job_id), step)
    return ModelReference(f"{job.job_id}@{step}", job_id=job.job_id, step=step, folder=folder)


def _cadence(job: JobRow) -> str:
    """Why a step may have none."""
    every = as_mapping(job.hyperparameters).get("checkpoint_interval", 1)
    kept = "those of the first, the newest and the validated steps are kept"
    if every == 1:
        return f": {kept}"
    when = f"every {every} steps" if isinstance(every, int) else "now and then"
    return f": they are written {when} (checkpoint_interval), and {kept}"


def spec_for(reference: ModelReference, store: JobStore | None, data: JobSpec) -> JobSpec:
    """The spec to evaluate a reference with: the data, tools and grader of `data`, the model of the reference's job and
    the variables of its chat template.
    """
    if reference.job_id is None or store is None:
        return data
    own: dict[str, Any] = store.get_job(reference.job_id).spec["job"]
    # A job that was stored before there were adapters of experts has none.
    trained = {"lora_rank": "auto", "lora_experts": False}
    trained = {name: own["hyperparameters"].get(name, usual) for name, usual in trained.items()}
    hyperparameters = data.hyperparameters.model_copy(update=trained)
    changed = {"model": own["model"], "hyperparameters": hyperparameters}
    # A model talks as it was trained to.
    changed["chat_template_kwargs"] = own.get("chat_template_kwargs", {})
    return data.model_copy(update=changed)


def _adapter_state(folder: Path) -> dict[str, torch.Tensor]:
    """PEFT leaves the adapter's name out of its files; the policy's weights have it."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config["lora_alpha"] != LORA_ALPHA_PER_RANK * config["r"]:
        raise UserError(
            f"{folder}: its lora_alpha {config['lora_alpha']} is not {LORA_ALPHA_PER_RANK} x its rank {config['r']}.",
            "Only adapters that agentrft wrote can be evaluated; others give wrong weights.",
        )
    weights = load_file(folder / ADAPTER_FILE)
    return {re.sub(r"\.(lora_[AB])\.weight$", r".\1.default.weight", name): w.float() for name, w in weights.items()}
