"""What a job leaves in its store and folder, and what it keeps out of them."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.data import load_samples
from agentrft.errors import Interrupted, JobFailedError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.schedule import samples_of_step
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from tests.job.ended import Ended
from tests.job.tiny_job import tool_calls, write_job
from tests.traffic.chaos_server import Behaviour, ChaosServer, raw, status

SECRET = "planted-4711-secret"


def test_every_automatic_hyperparameter_is_recorded_as_the_value_it_became(uninterrupted: Ended) -> None:
    with JobStore(uninterrupted.folder.parent, create=False) as store:
        job = store.get_job(uninterrupted.folder.name)
    assert job.hyperparameters == {
        "batch_size": 2,
        "n_epochs": 1,
        "learning_rate_multiplier": 5.0,
        "learning_rate": pytest.approx(1e-3),
        "compute_multiplier": 0.5,
        "rollouts_per_sample": 4,
        "eval_interval": 1,
        "checkpoint_interval": 1,
        "eval_samples": 1,
        "eval_rows": 4,
        "max_steps": 3,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens_per_turn": 48,
        "max_episode_steps": 4,
        "max_context_tokens": 256,
        "lora_rank": 4,
        "lora_experts": True,
        "max_grad_norm": 1.0,
        "algorithm": "grpo",
        "minibatches": 2,
        "update_epochs": 1,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "advantage_by": "rollout",
        "advantage_std_floor": 0.0,
        "kl_weight": 0.0,
        "clip_cov": 0.0,
        "overlong": "fail",
        "length_penalty": 0.0,
        "replay_rollouts": 0,
        "borrow_answers": False,
        "replay_weight": 0.0,
        "sample_by": "epoch",
        "dynamic_sampling": 0,
        "decide_after": 4,
        "max_off_policy_steps": 0,
    }
    assert job.spec["job"]["hyperparameters"]["n_epochs"] == "auto"
    assert job.total_steps == 3


def test_each_step_trains_on_the_samples_that_the_schedule_names(uninterrupted: Ended) -> None:
    samples = load_samples(uninterrupted.folder.parents[1] / "train.jsonl")
    seen = []
    for step in (1, 2, 3):
        of_step = list(dict.fromkeys(row["sample_id"] for row in uninterrupted.rollouts["train", step]))
        scheduled = samples_of_step(samples, batch_size=2, seed=7, step=step)
        assert of_step == [sample.sample_id for sample in scheduled]
        seen += of_step
    assert sorted(seen) == [sample.sample_id for sample in samples]


class Echo(ChaosServer):
    """Sends the key it was given back to whoever asked; `broken` makes that an error of the server."""

    broken = False

    def _behaviour(self, key: str) -> Behaviour:
        sent = self.received[-1].headers.get("Authorization", "none")
        return status(500, f"failed for {sent}") if self.broken else raw(f"fine {sent}".encode())


class StopAfter(NoProgress):
    """Asks the job to stop when its first training step is on disk."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if phase == "train":
            self._stop.request()


async def test_header_values_are_nowhere_but_in_requests_and_are_sent_again_after_resuming(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    async with Echo() as server:
        job_file = write_job(
            tmp_path,
            tiny_model,
            server.url,
            validation_file=None,
            warm_start=None,
            tool={"headers": {"Authorization": "Bearer ${PLANTED_KEY}"}, "retries": 0},
            hyperparameters={"max_steps": 2, "batch_size": 1, "temperature": 0.3},
        )
        spec = load_job(job_file)
        store, job_id = create_job(spec, source=job_file)
        with store:
            server.broken = True
            with pytest.raises(JobFailedError) as failed:
                await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            server.broken = False
            stop = Stop()
            with pytest.raises(Interrupted):
                await run_job(resume_job(store, job_id), store, job_id, progress=StopAfter(stop), stop=stop)
            requests_before = len(server.received)
            await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
            assert store.get_job(job_id).status == "succeeded"
            said = [str(store.events(job_id)), str(store.get_job(job_id)), str(failed.value), repr(spec), caplog.text]

    assert len(server.received) > requests_before + 1
    assert {received.headers["Authorization"] for received in server.received} == {f"Bearer {SECRET}"}
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".db", ".parquet", ".jsonl", ".pt", ".safetensors"}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    records = [str(read_rollouts(path)) for path in files if path.suffix == ".parquet"]
    assert any("fine" in record for record in records)
    assert [text for text in [*said, *records] if SECRET in text] == []
    assert any("HTTP 500" in text for text in said)
    assert tool_calls(server)
