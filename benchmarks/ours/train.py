"""Worker: the quickstart's reinforcement as a job: engine, tools, grader, updates and checkpoints."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from agentrft.errors import Interrupted
from agentrft.job import NoProgress, Stop, create_job, run_job
from benchmarks.ours.job import job_spec
from benchmarks.protocol import AfterStep, serve_training


class Reporting(NoProgress):
    """Tells each step, and ends the job when told to.

    Attributes:
        seconds: from the first rollout on, without telling.
    """

    def __init__(self, after_step: AfterStep, stop: Stop, checkpoints: Path) -> None:
        self._after_step = after_step
        self._stop = stop
        self._checkpoints = checkpoints
        self.seconds = 0.0
        self._resumed: float | None = None

    def phase(self, name: str, step: int, total: int) -> None:
        if self._resumed is None:
            self._resumed = time.perf_counter()

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        assert self._resumed is not None
        self.seconds += time.perf_counter() - self._resumed
        adapter = self._checkpoints / f"step-{step:05d}" / "adapter"
        told = {"step": step, "seconds": self.seconds, "adapter": str(adapter), "reward": metrics["reward_mean"]}
        told |= {name: metrics[name] for name in ("rollout_s", "update_s")}
        if not self._after_step(told):
            self._stop.request()
        self._resumed = time.perf_counter()


def train(config: dict[str, Any], seed: int, after_step: AfterStep) -> dict[str, Any]:
    """From the warm-started model, until told to stop or after the last step."""
    samples = len(config["order"][0])
    spec = job_spec(
        config,
        {"type": "python", "source_file": config["grader"], "trusted": True},
        seed=seed,
        hyperparameters={
            "batch_size": samples,
            "compute_multiplier": config["rollouts_per_sample"] / 8,
            "max_steps": config["decay_steps"],
            "lora_rank": config["lora_rank"],
            "learning_rate_multiplier": config["learning_rate"] / 2e-4,
            "max_grad_norm": config["max_grad_norm"],
            "minibatches": config["minibatches"],
            "update_epochs": config["update_epochs"],
        },
    )
    store, job_id = create_job(spec)
    stop = Stop()
    reporting = Reporting(after_step, stop, store.job_folder(job_id) / "checkpoints")
    with contextlib.suppress(Interrupted):
        asyncio.run(run_job(spec, store, job_id, progress=reporting, stop=stop))
    return {"seconds": reporting.seconds}


if __name__ == "__main__":
    serve_training(train, ["agentrft", "torch", "transformers", "peft"])
