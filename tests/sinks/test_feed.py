"""A job and its sinks: services that hang, that fail, and that come back."""

import threading
from pathlib import Path
from typing import Any

import pytest

from agentrft.job import metrics_out
from agentrft.sinks import Record, RunFacts
from tests.sinks.recorded_job import STEPS, RecordedJob

KEY = "abcdef0123456789"
ANY = {"type": "tensorboard"}


class Service:
    """Where a sink writes to; `fails` is what it raises as long as that is set."""

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.statuses: list[str] = []
        self.fails: Exception | None = None
        self.failed = threading.Event()
        self.hangs: threading.Event | None = None

    def open(self) -> int:
        self._meet()
        return len(self.rows)

    def write(self, record: Record) -> None:
        self._meet()
        assert record.number == len(self.rows)
        self.rows.append(record)

    def close(self, status: str) -> None:
        self._meet()
        self.statuses.append(status)

    def _meet(self) -> None:
        if self.hangs is not None:
            self.hangs.wait()
        if self.fails is not None:
            self.failed.set()
            raise self.fails


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setattr(metrics_out, "new_sink", lambda integration, run: made)
    return made


async def test_every_committed_step_arrives_in_order_with_the_status(tmp_path: Path, service: Service) -> None:
    job = RecordedJob(tmp_path, ANY)
    assert await job.run(STEPS, "failed") == []
    assert [(row.phase, row.step) for row in service.rows] == [(phase, step) for phase, step, _ in STEPS]
    assert service.rows[0].values == {"validation/reward_mean": 0.25, "validation/outcomes/graded": 4.0}
    assert service.rows[1].values == {"train/reward_mean": 0.5}
    assert service.statuses == ["failed"]


async def test_a_service_that_comes_back_gets_what_it_missed(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    service.fails = ConnectionError(f"refused, with {KEY}")
    job = RecordedJob(tmp_path, ANY)
    out = job.begin()
    assert service.failed.wait(60)
    for step in STEPS[:2]:
        job.commit(out, *step)
    while not job.warnings:
        # The failure is known a moment after the service has raised.
        out.committed("train", 1, {})
    service.fails = None
    await out.close("succeeded")
    assert [row.number for row in service.rows] == [0, 1]
    (warning,) = job.warnings
    assert "ConnectionError: refused" in warning and "The job goes on" in warning and KEY not in warning


async def test_what_a_service_never_took_is_counted_once(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_out, "LAST_S", 0.2)
    service.fails = ValueError("no")
    job = RecordedJob(tmp_path, ANY)
    warnings = await job.run(STEPS)
    assert len(warnings) <= 2
    assert "ValueError: no" in warnings[-1] and f"{len(STEPS)} of {len(STEPS)} steps' metrics were not" in warnings[-1]
    assert len(job.store.metrics(job.job_id)) == len(STEPS)


async def test_a_service_that_hangs_keeps_no_job(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_out, "LAST_S", 0.2)
    service.hangs = threading.Event()
    job = RecordedJob(tmp_path, ANY, {"type": "mlflow", "mlflow": {"tracking_uri": "http://127.0.0.1:9"}})
    try:
        warnings = await job.run(STEPS)
    finally:
        service.hangs.set()
    assert [text.split(":")[0] for text in warnings] == ["integrations[0], tensorboard", "integrations[1], mlflow"]
    assert all("no answer in time" in text for text in warnings)


async def test_the_job_that_a_sink_is_told_of_has_no_secrets(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[RunFacts] = []

    def new_sink(integration: Any, run: RunFacts) -> Service:
        told.append(run)
        return service

    monkeypatch.setattr(metrics_out, "new_sink", new_sink)
    job = RecordedJob(tmp_path, ANY)
    await job.run([])
    assert told[0].config["tools"] == [{"name": "lookup", "headers": {"X-Key": "***"}}]
    assert told[0].config["hyperparameters"] == {"batch_size": 2, "learning_rate": 1e-4}
