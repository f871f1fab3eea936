"""What writing checkpoints of all weights costs, at every step and at every eighth.

    python -m benchmarks.checkpoints [--steps 8] [--intervals 1 8] [--threads 2]

SmolLM2-135M takes so many small updates, and after each what a job does then: a checkpoint where one is due, synced to
the disk, and the one before it deleted. Timed is that alone. The last line on standard output is a JSON object.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from agentrft.job.checkpoint import prune, save_checkpoint
from agentrft.job.training_state import TrainingState
from agentrft.learner import Policy, SupervisedLearner, TrainingRow
from agentrft.models import resolve_model
from agentrft.models.load import dtype_on, load_model
from agentrft.models.planned import use_planned_attention
from agentrft.store import Artifacts
from agentrft.store.layout import step_folder
from benchmarks.harness import machine, report

ROWS, TOKENS = 1, 16
IDS = (1000, 40000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--intervals", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; else where temporary files are")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    learner = _learner()
    state = TrainingState.of(
        sum(master.numel() for master in learner.policy.masters), learner.policy.forward.dtype, all_weights=True
    )
    on, found = machine(arguments.threads), {}
    for interval in arguments.intervals:
        with tempfile.TemporaryDirectory(prefix="agentrft-bench-", dir=arguments.folder) as folder:
            found[interval] = _measured(learner, Path(folder), arguments.steps, interval)
    summary: dict[str, Any] = {"checkpoint_gb": round(state.checkpoint / 1e9, 3), "dtype": state.dtype}
    for interval, one in found.items():
        summary[f"every_{interval}"] = {name: one[name] for name in ("written_gb", "seconds", "seconds_a_step")}
        print(f"every {interval} steps: {one}", flush=True)
    report("checkpoints", {"machine": on, "steps": arguments.steps, "intervals": found, "summary": summary})


def _learner() -> SupervisedLearner:
    """One that trains all weights, and has taken a step, so that there are moments."""
    model = load_model(resolve_model("smollm2-135m"), dtype_on(torch.device("cpu"), "auto"))
    use_planned_attention(model)
    policy = Policy(model, lora_rank=None, seed=0, generates=False)
    learner = SupervisedLearner(policy, learning_rate=1e-6, max_grad_norm=1.0)
    learner.supervised_update(_rows(0))
    return learner


def _rows(seed: int) -> list[TrainingRow]:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(*IDS, (ROWS, TOKENS), generator=draw).tolist()
    positions = list(range(1, TOKENS))
    return [TrainingRow(row, positions, [0.0] * len(positions), index) for index, row in enumerate(ids)]


def _measured(learner: SupervisedLearner, folder: Path, steps: int, interval: int) -> dict[str, Any]:
    written, each, kept = 0, [], 0
    for step in range(1, steps + 1):
        learner.supervised_update(_rows(step))
        if step % interval:
            continue
        started = time.perf_counter()
        save_checkpoint(step_folder(folder, step), learner)
        prune(folder, {step}, Artifacts())
        each.append(time.perf_counter() - started)
        kept = sum(path.stat().st_size for path in step_folder(folder, step).rglob("*") if path.is_file())
        written += kept
    return {
        "checkpoints": len(each),
        "written_gb": round(written / 1e9, 3),
        "kept_gb": round(kept / 1e9, 3),
        "seconds": round(sum(each), 2),
        "seconds_a_step": round(sum(each) / steps, 3),
        "median_s": round(statistics.median(each), 2) if each else 0.0,
    }


if __name__ == "__main__":
    main()
