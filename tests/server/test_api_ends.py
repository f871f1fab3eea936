"""How jobs end, pause and go on, as a client sees it: a status is never there before what it is told with."""

import time
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from tests.job.tiny_job import serving
from tests.server.live import MODEL, Live, live, method, upload, wait_for
from tests.traffic.chaos_server import ChaosServer, json_body, status

ONE_STEP = {"max_steps": 1}
COMPLETED = "The job has successfully completed"


def create(client: OpenAI, files: dict[str, str], tool_url: str, *, extra: Any = None, **changes: Any) -> str:
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=files["train"], method=method(tool_url, **changes),  # type: ignore[arg-type]
        extra_body={"dtype": "float32", **(extra or {})},
    )  # fmt: skip
    return job.id


def messages(client: OpenAI, job_id: str) -> list[str]:
    """Newest first."""
    return [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100).data]


def test_who_sees_that_a_job_ended_sees_its_last_event(
    client: OpenAI, files: dict[str, str], tools: ChaosServer, server: Live
) -> None:
    job_id = create(client, files, tools.url, hyperparameters=ONE_STEP)
    polled = f"{server.url}/fine_tuning/jobs/{job_id}"
    deadline = time.monotonic() + 120
    while (job := httpx.get(polled).json())["status"] not in ("succeeded", "failed"):
        assert time.monotonic() < deadline
    assert job["status"] == "succeeded", job
    newest = httpx.get(f"{polled}/events").json()["data"]
    assert newest[0]["message"] == COMPLETED
    assert newest[1]["message"].startswith("The result is step 1, the last one")


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
            deadline = time.monotonic() + 20
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


def test_an_alarm_that_pauses_a_job_says_why(client: OpenAI, files: dict[str, str], tools: ChaosServer) -> None:
    loud = {
        "output_length_drift": False,
        "zero_variance_share": {"threshold": 0.01, "action": "pause", "over_steps": 1},
    }
    grader: Any = {"type": "string_check", "input": "a", "reference": "a", "operation": "eq"}
    job_id = create(client, files, tools.url, grader=grader, extra={"alarms": loud}, hyperparameters={"max_steps": 3})
    wait_for(client, job_id, "paused")
    newest = messages(client, job_id)[0]
    assert newest.startswith("paused by an alarm: ") and "agentrft train" not in newest
    assert client.fine_tuning.jobs.resume(job_id).status in ("queued", "running")
    wait_for(client, job_id, "succeeded")
