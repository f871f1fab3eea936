"""What a job keeps of the weights it trains, in memory and on the disk."""

import shutil
from pathlib import Path

from agentrft.job.check.findings import CheckReport
from agentrft.job.runtime import Runtime
from agentrft.job.training_state import GB, TrainingState

# Beside those of validated steps: the first, the newest, and one that is being written.
OTHERS = 3


def check_checkpoints(runtime: Runtime, report: CheckReport) -> None:
    """Say what the weights are kept in and what checkpoints take, and warn where the disk has no room for them."""
    hyperparameters = runtime.hyperparameters
    state = TrainingState.of(
        sum(master.numel() for master in runtime.policy.masters),
        runtime.dtype,
        all_weights=hyperparameters.lora_rank is None,
        checkpoint_interval=hyperparameters.checkpoint_interval,
    )
    trained = "all weights" if state.all_weights else f"adapters of rank {hyperparameters.lora_rank}"
    report.ok("weights", f"trained are {trained}: {state.kept_as}")
    validated = 0 if not runtime.validation else -(-hyperparameters.max_steps // hyperparameters.eval_interval)
    needed = (validated + OTHERS) * state.checkpoint
    free = shutil.disk_usage(_existing(runtime.spec.output_dir)).free
    found = f"a checkpoint takes {state.written_as}; kept are at most {validated + 2}"
    if needed > free:
        report.warn(
            "checkpoints",
            f"{found}, which take {needed / GB:.1f} GB with one that is being written; {runtime.spec.output_dir} has "
            f"{free / GB:.1f} GB free.",
            "Make room, set output_dir to a larger disk, or validate less often: validated steps are kept.",
        )
    else:
        report.ok("checkpoints", f"{found}: {needed / GB:.3g} GB with one that is being written")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if one.is_dir())
