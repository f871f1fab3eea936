"""What a job leaves, by name: the phases of its record, and the folders of its checkpoints.

checkpoints/step-00007/state.pt       master weights, optimizer, counters (the learner's `state`)
checkpoints/step-00007/adapter/       the adapter in PEFT's format, or model/ with all weights
checkpoints/warm-start-00003/         of the warm start's last batch
"""

from pathlib import Path

WARM_START, TRAIN, VALIDATION = "warm_start", "train", "validation"
STATE, ADAPTER, MODEL = "state.pt", "adapter", "model"


def step_folder(job_folder: Path, step: int) -> Path:
    return job_folder / "checkpoints" / f"step-{step:05d}"


def warm_start_folder(job_folder: Path, batch: int) -> Path:
    return job_folder / "checkpoints" / f"warm-start-{batch:05d}"
