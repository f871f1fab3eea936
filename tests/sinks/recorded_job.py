"""A job's record without the job: steps are committed to a real store, and sinks are fed from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrft.job import NoProgress
from agentrft.job.metrics_out import MetricsOut
from agentrft.spec.integrations import WithIntegrations
from agentrft.store import JobStore

STEPS: list[tuple[str, int, dict[str, Any]]] = [
    ("validation", 0, {"reward_mean": 0.25, "outcomes": {"graded": 4}}),
    ("train", 1, {"reward_mean": 0.5, "bottleneck": "tools", "entropy": float("nan")}),
    ("validation", 1, {"reward_mean": 0.375}),
    ("train", 2, {"reward_mean": 0.75, "loss": -1.5}),
    ("validation", 2, {"reward_mean": 0.625}),
]


class RecordedJob:
    """A stored job, whose processes come and go."""

    def __init__(self, folder: Path, *integrations: dict[str, Any]) -> None:
        self.integrations = WithIntegrations.model_validate({"integrations": integrations}).integrations
        self.store = JobStore(folder / "runs")
        job = {"model": "tiny", "method": "supervised", "tools": [{"name": "lookup", "headers": {"X-Key": "***"}}]}
        self.job_id = self.store.create_job({"source": None, "job": job, "files": {}}, model="tiny", seed=0)
        self.store.record_hyperparameters(self.job_id, {"batch_size": 2, "learning_rate": 1e-4})

    async def run(self, steps: Sequence[tuple[str, int, dict[str, Any]]], status: str = "succeeded") -> list[str]:
        """A process that commits some steps and ends. Returns the warnings that the job has by then."""
        out = self.begin()
        for step in steps:
            self.commit(out, *step)
        await out.close(status)
        return self.warnings

    def begin(self) -> MetricsOut:
        out = MetricsOut(self.integrations, self.store, self.job_id, NoProgress())
        out.started(self.job_id, 2)
        return out

    def commit(self, out: MetricsOut, phase: str, step: int, metrics: dict[str, Any]) -> None:
        self.store.commit_step(self.job_id, phase, step, metrics)
        out.committed(phase, step, metrics)

    @property
    def folder(self) -> Path:
        return self.store.job_folder(self.job_id)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.store.events(self.job_id) if event.level == "warning"]
