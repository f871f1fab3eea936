"""How jobs end, pause and go on, as a client sees it: a status is never there before what it is told with."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI
from safetensors.torch import load_file

from tests.job.tiny_job import serving
from tests.server.live import MODEL, PATIENCE_S, QUICK, Live, live, method, upload, wait_for
from tests.traffic.chaos_server import ChaosServer, json_body, status

ONE_STEP = {"max_steps": 1}
COMPLETED = "The job has successfully completed"


def create(client: OpenAI, files: dict[str, str], tool_url: str, **changes: Any) -> str:
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        method=method(tool_url, **changes),  # type: ignore[arg-type]
        extra_body=QUICK,
    )
    return job.id


def messages(client: OpenAI, job_id: str) -> list[str]:
    """Newest first."""
    return [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100).data]


def test_who_sees_that_a_job_ended_sees_its_last_event(
    client: OpenAI, files: dict[str, str], tools: ChaosServer, server: Live
) -> None:
    job_id = create(client, files, tools.url, hyperparameters=ONE_STEP)
    polled = f"{server.url}/fine_tuning/jobs/{job_id}"
    deadline = time.monotonic() + PATIENCE_S
    while (job := httpx.get(polled).json())["status"] not in ("succeeded", "failed"):
        assert time.monotonic() < deadline
        if job["status"] != "running":  # from there on every look counts
            time.sleep(0.05)
    assert job["status"] == "succeeded", job
    newest = httpx.get(f"{polled}/events").json()["data"]
    assert newest[0]["message"] == COMPLETED
    assert newest[1]["message"].startswith("The result is step 1, the last one")


@pytest.mark.slow
def test_a_job_that_failed_on_a_broken_grader_is_resumed_once_it_is_mended(
    tmp_path: Path, tiny_model: Path, tools: ChaosServer
) -> None:
    with serving(ChaosServer(default=status(503))) as judge, serving(ChaosServer()) as hook:
        (tmp_path / "data").mkdir()
        address = ("--webhook-url", hook.url)
        with live(tmp_path / "data", tiny_model, *address) as server:
            client = server.client()
            files = upload(client, tmp_path / "rows")
            grader = {"type": "endpoint", "url": judge.url, "retries": 0, "outage_deadline_s": 1}
            job_id = create(client, files, tools.url, grader=grader, hyperparameters=ONE_STEP)
            failed = wait_for(client, job_id, "failed")
            assert failed.error is not None and "infrastructure failures left no group" in failed.error.message
            assert "agentrft train" not in failed.error.message, "who uses the API has no command line of the server's"
            assert messages(client, job_id)[0] == failed.error.message
            judge.default = json_body({"score": 0.5})
            assert client.fine_tuning.jobs.resume(job_id).status in ("queued", "running")
            mended = wait_for(client, job_id, "succeeded")
            assert mended.error is None or mended.error.message is None
            deadline = time.monotonic() + 60
            while len(hook.received) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
    told = [one.body for one in hook.received]
    assert [one["type"] for one in told] == ["fine_tuning.job.failed", "fine_tuning.job.succeeded"]
    assert len({one["id"] for one in told}) == 2, "a receiver that drops repeated ids would miss the second one"


def test_a_job_with_a_file_that_is_no_good_stays_failed(client: OpenAI, files: dict[str, str]) -> None:
    grader: Any = {"type": "string_check", "input": "{{ item.no_such_key }}", "reference": "x", "operation": "eq"}
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        method={"type": "reinforcement", "reinforcement": {"grader": grader}},
    )
    wait_for(client, job.id, "failed")
    answer = httpx.post(f"{client.base_url}fine_tuning/jobs/{job.id}/resume")
    assert answer.status_code == 400 and "failed after it began" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_an_alarm_that_pauses_a_job_says_why(client: OpenAI, files: dict[str, str], tools: ChaosServer) -> None:
    loud = {
        "output_length_drift": False,
        "zero_variance_share": {"threshold": 0.01, "action": "pause", "over_steps": 1},
    }
    grader: Any = {"type": "string_check", "input": "a", "reference": "a", "operation": "eq"}
    job_id = create(client, files, tools.url, grader=grader, alarms=loud, hyperparameters={"max_steps": 3})
    wait_for(client, job_id, "paused")
    newest = messages(client, job_id)[0]
    assert newest.startswith("paused by an alarm: ") and "agentrft train" not in newest
    assert client.fine_tuning.jobs.resume(job_id).status in ("queued", "running")
    told = set()
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status != "succeeded":
        assert job.status in ("queued", "running")
        told.add(job.estimated_finish)
        time.sleep(0.05)
    assert job.estimated_finish is None and job.finished_at is not None
    (first, *_) = sorted(told - {None}, key=int)
    assert job.created_at < first < job.finished_at + 600, "from the first step on, it is said when the job will end"


@pytest.mark.slow
def test_a_fine_tuned_model_is_trained_further_and_kept_meanwhile(
    client: OpenAI, files: dict[str, str], tools: ChaosServer, server: Live
) -> None:
    first = wait_for(client, create(client, files, tools.url, hyperparameters=ONE_STEP), "succeeded")
    name = str(first.fine_tuned_model)
    with pytest.raises(BadRequestError, match="lora_rank: 8, but the weights"):
        train_further(client, files, tools.url, name, lora_rank=8)
    second = train_further(client, files, tools.url, name, lora_rank="auto")
    assert second.model == name
    with pytest.raises(ConflictError, match=f"{second.id}, which has not ended, begins with it"):
        client.with_options(max_retries=0).models.delete(name)
    running = f"ft:{MODEL}:local::{second.id.removeprefix('ftjob-')}"
    second = wait_for(client, second.id, "succeeded")
    assert second.fine_tuned_model == running, "the base stays the base, however often it is trained further"
    jobs = server.data_dir / "jobs"
    known = load_file(jobs / first.id / "checkpoints" / "step-00001" / "adapter" / "adapter_model.safetensors")
    begun = load_file(jobs / second.id / "checkpoints" / "step-00000" / "adapter" / "adapter_model.safetensors")
    assert known.keys() == begun.keys() and all(torch.equal(known[key], begun[key]) for key in known)
    assert client.models.delete(name).deleted
    with pytest.raises(NotFoundError):
        train_further(client, files, tools.url, name, lora_rank="auto")


def train_further(client: OpenAI, files: dict[str, str], tool_url: str, name: str, **hyperparameters: Any) -> Any:
    changed = {**ONE_STEP, **hyperparameters}
    return client.fine_tuning.jobs.create(
        model=name,
        training_file=files["train"],
        method=method(tool_url, hyperparameters=changed),  # type: ignore[arg-type]
        extra_body=QUICK,
    )


def test_a_refused_baseline_tells_once_how_the_api_goes_on(
    client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    grader: Any = {"type": "string_check", "input": "a", "reference": "b", "operation": "eq"}
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        method=method(tools.url, grader=grader),  # type: ignore[arg-type]
        extra_body=QUICK,
    )
    failed: Any = wait_for(client, job.id, "failed")
    said = failed.error.message
    assert "every reward is 0" in said
    for way in (failed.eval_id, '"warm_start": {"training_file": "file-…"}', '"baseline": {"enabled": False}'):
        assert way in said
    assert "agentrft " not in said and "--" not in said, "who uses the API has no command line of the server's"
    told = [message for message in messages(client, job.id) if "every reward is 0" in message]
    assert told == [
        "The baseline is not trainable: every reward is 0: the agent never does anything that the grader rewards."
    ]
    runs: Any = httpx.get(f"{client.base_url}evals/{failed.eval_id}/runs").json()["data"]
    assert [run["metadata"]["step"] for run in runs] == ["0"], "what the message says is there to read"
