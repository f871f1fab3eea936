"""What each service has after a job's process, and after the job was resumed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrft.sinks import Record, RunFacts
from agentrft.spec.integrations import MlflowSpec
from tests.sinks.recorded_job import STEPS, RecordedJob
from tests.sinks.wandb_server import wandb_server

# By name the (step, value) points that a job of `STEPS` leaves; what is no finite number is left out.
POINTS = {
    "train/loss": [(2, -1.5)],
    "train/reward_mean": [(1, 0.5), (2, 0.75)],
    "validation/outcomes/graded": [(0, 4.0)],
    "validation/reward_mean": [(0, 0.25), (1, 0.375), (2, 0.625)],
}
KEY = "0123456789abcdef" * 3


async def interrupted_and_resumed(job: RecordedJob) -> None:
    assert await job.run(STEPS[:3], "interrupted") == []
    assert await job.run(STEPS[3:], "succeeded") == []


def points(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if "/" in name:
                found.setdefault(name, []).append((row["step"], value))
    return dict(sorted(found.items()))


async def test_a_run_of_wandb_goes_on_with_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_process: None
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        job = RecordedJob(tmp_path, {"type": "wandb", "wandb": {"project": "agents", "tags": ["first"]}})
        await interrupted_and_resumed(job)
        assert server.runs == {job.job_id}
        rows = [server.history[place] for place in sorted(server.history)]
        assert [row["_step"] for row in rows] == list(range(len(STEPS)))
        assert points(rows) == POINTS
        assert server.ends == [1, 0]
        told = "\n".join(server.bodies)
        assert "learning_rate" in told and "X-Key" in told and KEY not in told


async def test_without_a_network_wandb_keeps_a_run_to_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_process: None
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    job = RecordedJob(tmp_path, {"type": "wandb", "wandb": {"project": "agents"}})
    assert await job.run(STEPS) == []
    (kept,) = job.folder.glob("wandb/offline-run-*")
    with wandb_server() as server:
        environment = {**os.environ, "WANDB_MODE": "online", "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        command = [sys.executable, "-m", "wandb", "sync", str(kept)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert points([server.history[place] for place in sorted(server.history)]) == POINTS


async def test_a_run_of_mlflow_goes_on_with_its_job(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    from agentrft.sinks.mlflow import MlflowSink

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    job = RecordedJob(tmp_path, {"type": "mlflow", "mlflow": {"tracking_uri": uri, "name": "first", "tags": ["new"]}})
    await interrupted_and_resumed(job)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("agentrft")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["hyperparameters.learning_rate"] == "0.0001"
    assert run.data.tags["agentrft.status"] == "succeeded" and run.data.tags["new"] == "true"
    found = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in sorted(run.data.metrics)
    }
    assert found == POINTS
    # A process was killed after it had written a step's numbers, and before it could write that it had.
    client.set_tag(run.info.run_id, "agentrft.records", "3")
    assert await job.run([]) == []
    assert [one.step for one in client.get_metric_history(run.info.run_id, "train/reward_mean")] == [1, 2]
    # Names that MLflow refuses are written in others.
    sink = MlflowSink(MlflowSpec(tracking_uri=uri), RunFacts("ftjob-1", {}, tmp_path))
    assert sink.open() == 0
    sink.write(Record.of(0, {"phase": "train", "step": 1, "calls": {"where's it?": 2}}))
    assert sink.open() == 1


async def test_a_resumed_job_leaves_each_point_once_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = RecordedJob(tmp_path, {"type": "tensorboard", "tensorboard": {"folder": str(tmp_path / "board")}})
    await interrupted_and_resumed(job)
    read = EventAccumulator(str(tmp_path / "board" / job.job_id))
    read.Reload()
    tags = read.Tags()
    assert {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in sorted(tags["scalars"])} == POINTS
    assert b"learning_rate" in read.Tensors("config/text_summary")[-1].tensor_proto.string_val[0]
    assert read.Tensors("status/text_summary")[-1].tensor_proto.string_val[0] == b"succeeded"


async def test_a_run_of_trackio_goes_on_with_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its Pillow is older than the one that other extras take, so that most environments are without it.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio needs a Pillow of its own")
    from trackio.sqlite_storage import SQLiteStorage

    job = RecordedJob(tmp_path, {"type": "trackio", "trackio": {"project": "agents"}})
    await interrupted_and_resumed(job)
    rows = SQLiteStorage.get_logs("agents", job.job_id)
    assert points(rows) == POINTS
