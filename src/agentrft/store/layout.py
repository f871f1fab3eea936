"""What a job leaves, by name: the phases of its record, and what is in its folder.

checkpoints/step-00007/state.pt       master weights, optimizer, counters (the learner's `state`)
checkpoints/step-00007/adapter/       the adapter in PEFT's format, or model/ with all weights
checkpoints/warm-start-00003/         of a batch of the warm start, until that is over
rollouts/train-00007.parquet          of a step, and validation-00007.parquet, and test-00007.parquet at the end
                                      warm_rollouts-00002.parquet of a warm start's round
"""

from collections.abc import Iterable
from pathlib import Path

WARM_START, TRAIN, VALIDATION, TEST = "warm_start", "train", "validation", "test"
# Of a warm start on the model's own successes: the rollouts of a round.
WARM_ROLLOUTS = "warm_rollouts"
# The data that the rollouts of a phase are of, by the job's field that names its file.
DATA_FILES = {TRAIN: "training_file", VALIDATION: "validation_file", TEST: "test_file"}
# Of the folders of checkpoints, before the number of the step or batch.
STEP_PREFIX, WARM_PREFIX = "step-", "warm-start-"
STATE, ADAPTER, MODEL = "state.pt", "adapter", "model"


def checkpoints_folder(job_folder: Path) -> Path:
    return job_folder / "checkpoints"


def step_folder(job_folder: Path, step: int) -> Path:
    return checkpoints_folder(job_folder) / f"{STEP_PREFIX}{step:05d}"


def warm_start_folder(job_folder: Path, batch: int) -> Path:
    return checkpoints_folder(job_folder) / f"{WARM_PREFIX}{batch:05d}"


def newest_checkpoint(checkpoints: Iterable[int], last: int) -> int:
    """The step, of those with a checkpoint, that a job goes on from whose record ends with step `last`; 0 where there
    is none. One beyond `last` is of a step that was never recorded."""
    return max((step for step in checkpoints if step <= last), default=0)


def rollouts_folder(job_folder: Path) -> Path:
    return job_folder / "rollouts"


def rollouts_file(job_folder: Path, phase: str, step: int) -> Path:
    return rollouts_folder(job_folder) / f"{phase}-{step:05d}.parquet"
