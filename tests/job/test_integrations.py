"""A whole job with integrations and spans."""

from collections import Counter
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agentrft.errors import UserError
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.check import check_job
from agentrft.sinks import numbers
from agentrft.spec import load_job
from tests.job.tiny_job import write_job
from tests.tracing.collector import collecting
from tests.traffic.chaos_server import ChaosServer

SECRET = "a-header-value-that-is-secret"


async def test_a_job_is_shown_in_tensorboard_and_as_spans(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        async with ChaosServer() as server:
            job_file = write_job(
                tmp_path,
                tiny_model,
                server.url,
                hyperparameters={"max_steps": 1},
                tool={"headers": {"X-Key": SECRET}},
                integrations=[{"type": "tensorboard", "tensorboard": {"folder": "board"}}],
            )
            spec = load_job(job_file)
            store, job_id = create_job(spec, source=job_file)
            with store:
                await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
                metrics = store.metrics(job_id)
                assert not [event for event in store.events(job_id) if "integrations" in event.message]
            headers = [request.headers for request in server.received]
    folder = tmp_path / "board" / job_id
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in folder.iterdir())
    board = EventAccumulator(str(folder))
    board.Reload()
    tags = board.Tags()["scalars"]
    found = {(tag, one.step): pytest.approx(one.value, rel=1e-5) for tag in tags for one in board.Scalars(tag)}
    kept = {}
    for row in metrics:
        measured = {name: value for name, value in row.items() if name not in ("phase", "step")}
        kept |= {(name, row["step"]): value for name, value in numbers(measured, row["phase"])}
    assert kept == found and ("train/reward_mean", 1) in kept and ("validation/pass_at_1", 0) in kept

    # Two groups of four, and validations of four before and after; each rollout is a trace of its own.
    roots = collector.named("invoke_agent")
    assert Counter(root.attributes["agentrft.phase"] for root in roots) == {"train": 8, "validation": 8}
    assert len({root.trace_id for root in roots}) == len(roots)
    updates = [(one.attributes["agentrft.phase"], one.attributes["agentrft.step"]) for one in collector.named("update")]
    assert sorted(updates) == [("train", 1), ("warm_start", 1), ("warm_start", 2)]
    joined = {header["traceparent"].split("-")[1] for header in headers if "traceparent" in header}
    assert joined and joined <= {root.trace_id for root in roots}
    assert all(span.attributes["agentrft.job_id"] == job_id for span in collector.spans)
    assert not any(SECRET.encode() in body for body in collector.bodies)


async def test_a_key_that_is_missing_is_found_before_anything_else_is_done(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    wandb = {"type": "wandb", "wandb": {"project": "agents"}}
    job_file = write_job(tmp_path, tiny_model, "http://127.0.0.1:9", integrations=[wandb], training_file="none.jsonl")
    spec = load_job(job_file)
    findings = (await check_job(spec, burst=0)).findings
    assert findings[0].level == "error" and findings[0].part == "integration wandb"
    assert "WANDB_API_KEY" in findings[0].text and "export WANDB_API_KEY" in findings[0].remedy
    spec = load_job(write_job(tmp_path, tiny_model, "http://127.0.0.1:9", integrations=[wandb]))
    store, job_id = create_job(spec)
    with store, pytest.raises(UserError, match="WANDB_API_KEY"):
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    with store:
        assert store.get_job(job_id).status == "failed"
