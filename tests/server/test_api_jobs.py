"""Jobs: what is refused, what is one job, lists in pages, events, stops, checkpoints' permissions and evals."""

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.job.tiny_job import VALIDATION_WORDS, prompt
from tests.server.live import MODEL, Live, method, wait_for
from tests.traffic.chaos_server import ChaosServer

ECHO: Any = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}


@pytest.fixture(scope="module")
def trained(client: OpenAI, files: dict[str, str], tools: ChaosServer) -> Any:
    """A job that succeeded."""
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        seed=7,
        method=method(tools.url, hyperparameters={"max_steps": 2}),
        extra_body={"dtype": "float32"},  # type: ignore[arg-type]
        metadata={"kind": "trained"},
    )
    return wait_for(client, job.id, "succeeded")


def create(client: OpenAI, files: dict[str, str], **given: Any) -> Any:
    request = {
        "model": MODEL,
        "training_file": files["train"],
        "method": {"type": "reinforcement", "reinforcement": {"grader": ECHO}},
        **given,
    }
    return client.fine_tuning.jobs.create(**request)


SECRET_FILE: Any = {"type": "python", "source_file": "secret.key"}
HEADERS = {"X-Key": "${AGENTRFT_SECRET_KEY}"}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"training_file": "file-none"}, "training_file", "no file 'file-none'"),
    ({"method": {"type": "gut"}}, "method", "`type: reinforcement`, `supervised` or `dpo`"),
    ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method", "grader: Field required"),
    ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "gut"}}}}, "method", "grader"),
    ({"suffix": "x" * 65}, "method", "suffix"),
    ({"seed": -1}, "method", "seed"),
    ({"metadata": {"a": "x" * 513}}, "metadata", "512"),
    ({"integrations": [{"type": "wandb", "wandb": {"projekt": "p"}}]}, "integrations", "unknown field 'projekt'"),
    ({"method": {"type": "reinforcement", "reinforcement": {"grader": SECRET_FILE}}}, "method", "give the code as"),
    (
        {
            "method": {
                "type": "reinforcement",
                "reinforcement": {"grader": ECHO, "hyperparameters": "auto", "max_episode_steps": 3},
            }
        },
        "method",
        "expected a mapping",
    ),
    ({"extra_body": {"priority": 10**30}}, "priority", "at most 1000"),
    ({"extra_body": {"temperatur": 1}}, "temperatur", "Unknown field"),
    ({"extra_body": {"engine": {"kv_cache": 1}}}, "method", "unknown field 'kv_cache'"),
]


@pytest.mark.parametrize(("given", "param", "text"), REFUSED)
def test_a_faulty_request_is_refused_with_its_field(
    client: OpenAI, files: dict[str, str], given: dict[str, Any], param: str, text: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, files, **given)
    assert refused.value.param == param and text in str(refused.value)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.request_id and refused.value.request_id.startswith("req_")


def test_a_model_that_is_not_here_is_refused_with_those_that_are(client: OpenAI, files: dict[str, str]) -> None:
    with pytest.raises(openai.NotFoundError, match=r"smollm2-135m, tiny") as refused:
        create(client, files, model="gpt-4o-2024-08-06")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("url", "text"),
    [("http://169.254.169.254/latest", "link-local"), ("http://metadata.google.internal/x", "metadata")],
)
def test_tools_may_not_be_at_addresses_of_the_machine_itself(
    client: OpenAI, files: dict[str, str], url: str, text: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=text):
        create(client, files, method=method(url))


@pytest.mark.parametrize(
    "grader",
    [
        {"type": "endpoint", "url": "http://127.0.0.1:9", "headers": HEADERS},
        {
            "type": "model",
            "model": "j",
            "prompt": "{final_answer}",
            "base_url": "http://127.0.0.1:9",
            "api_key_env": "AGENTRFT_SECRET_KEY",
        },
    ],
)
def test_jobs_may_not_read_the_servers_environment(client: OpenAI, files: dict[str, str], grader: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="AGENTRFT_SECRET_KEY may not be read here"):
        create(client, files, method={"type": "reinforcement", "reinforcement": {"grader": grader}})
    with pytest.raises(openai.BadRequestError, match="may not be read here"):
        client.fine_tuning.alpha.graders.run(grader=grader, model_sample="x")


def test_a_file_that_a_job_waits_with_is_not_deleted(client: OpenAI, files: dict[str, str], tools: ChaosServer) -> None:
    warm_start = {"training_file": files["demonstrations"]}
    job = create(client, files, method=method(tools.url), extra_body={"warm_start": warm_start})
    for name in ("train", "demonstrations"):
        with pytest.raises(openai.ConflictError, match="in use"):
            client.with_options(max_retries=0).files.delete(files[name])
    client.fine_tuning.jobs.cancel(job.id)


def test_a_grader_that_cannot_be_made_fails_the_job_before_it_waits(client: OpenAI, files: dict[str, str]) -> None:
    grader = {"type": "python", "source": "def grade(:"}
    job = create(client, files, method={"type": "reinforcement", "reinforcement": {"grader": grader}})
    job = wait_for(client, job.id, "failed")
    assert "syntax" in job.error.message.lower()


@pytest.mark.slow
def test_a_warm_start_on_own_successes_and_a_test_file(
    client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    warm_start = {
        "training_file": files["demonstrations"],
        "from": "rollouts",
        "rounds": 1,
        "samples": 2,
        "rollouts_per_sample": 2,
        "examples_file": files["demonstrations"],
    }
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        method=method(tools.url, hyperparameters={"max_steps": 1}),
        extra_body={  # type: ignore[arg-type]
            "dtype": "float32",
            "warm_start": warm_start,
            "test_file": files["validation"],
            "baseline": {"enabled": False},
        },
    )
    job = wait_for(client, job.id, "succeeded")
    told = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert any(
        re.match(r"Test: reward \d.\d+ as the model began, \d.\d+ at step 1, on 4 samples", text) for text in told
    )


def test_unknown_fields_of_the_method_are_shown_again_and_warned_of(client: OpenAI, files: dict[str, str]) -> None:
    inner = {"grader": ECHO, "colour": "blue", "hyperparameters": {"reasoning_effort": "high", "batch_size": 2}}
    job = create(client, files, method={"type": "reinforcement", "reinforcement": inner})
    assert job.method.to_dict()["reinforcement"]["colour"] == "blue"
    assert job.method.to_dict()["reinforcement"]["hyperparameters"]["reasoning_effort"] == "high"
    warnings = [one.message for one in client.fine_tuning.jobs.list_events(job.id).data if one.level == "warn"]
    assert sorted(text.split(":")[0] for text in warnings) == [
        "method.reinforcement.colour",
        "method.reinforcement.hyperparameters.reasoning_effort",
    ]
    client.fine_tuning.jobs.cancel(job.id)


def test_a_grader_that_rows_do_not_fit_fails_the_job_and_names_them(client: OpenAI, files: dict[str, str]) -> None:
    grader = {**ECHO, "reference": "{{ item.answer }}"}
    job = create(client, files, method={"type": "reinforcement", "reinforcement": {"grader": grader}})
    job = wait_for(client, job.id, "failed")
    assert (job.error.code, job.error.param) == ("invalid_grader", "method.reinforcement.grader")
    assert "'item' has no key 'answer'" in job.error.message


def test_the_same_idempotency_key_and_the_sdks_own_retry_make_one_job(client: OpenAI, files: dict[str, str]) -> None:
    headers = {"Idempotency-Key": f"once-{time.time()}"}
    first = create(client, files, extra_headers=headers)
    assert create(client, files, extra_headers=headers).id == first.id
    with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
        create(client, files, seed=5, extra_headers=headers)
    retry = create(client, files, extra_headers={"x-stainless-retry-count": "1"})
    assert retry.id == first.id
    assert create(client, files).id != first.id
    for job in client.fine_tuning.jobs.list(limit=3):
        if job.status not in ("succeeded", "failed", "cancelled"):
            client.fine_tuning.jobs.cancel(job.id)


def test_jobs_come_newest_first_in_pages_and_by_metadata(client: OpenAI, files: dict[str, str]) -> None:
    tag = f"t{time.time()}"
    ids = [create(client, files, metadata={"tag": tag, "n": str(n)}).id for n in range(5)]
    page = client.fine_tuning.jobs.list(limit=2, metadata={"tag": tag})
    assert [job.id for job in page.data] == ids[:2:-1] and page.has_more
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2, metadata={"tag": tag})] == ids[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"tag": tag, "n": "3"})] == [ids[3]]
    for job_id in ids:
        assert client.fine_tuning.jobs.cancel(job_id).status in ("cancelled", "running", "queued")
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.fine_tuning.jobs.list(limit=1000)


def test_jobs_that_have_ended_or_never_were_are_not_stopped(client: OpenAI, trained: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="has ended"):
        client.fine_tuning.jobs.cancel(trained.id)
    with pytest.raises(openai.BadRequestError, match="only a paused job"):
        client.fine_tuning.jobs.resume(trained.id)
    for ask in (client.fine_tuning.jobs.retrieve, client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.list_events):
        with pytest.raises(openai.NotFoundError, match="ftjob-none"):
            ask("ftjob-none")


def test_events_come_newest_first_in_pages_and_as_a_stream(client: OpenAI, trained: Any) -> None:
    everything = list(client.fine_tuning.jobs.list_events(trained.id, limit=2))
    assert len({event.id for event in everything}) == len(everything) > 4
    assert everything[0].message == "The job has successfully completed"
    assert everything[-1].message == f"Created fine-tuning job: {trained.id}"
    url = f"{client.base_url}fine_tuning/jobs/{trained.id}/events"
    with httpx.stream("GET", url, params={"stream": "true"}, timeout=30) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    assert [json.loads(line)["id"] for line in lines[:-1]] == [event.id for event in everything][::-1]


def test_a_checkpoint_can_be_asked_and_permitted(client: OpenAI, trained: Any) -> None:
    checkpoint = client.fine_tuning.jobs.checkpoints.list(trained.id).data[0].fine_tuned_model_checkpoint
    assert checkpoint.endswith(":ckpt-step-2")
    made = client.fine_tuning.checkpoints.permissions.create(checkpoint, project_ids=["proj_a", "proj_b"])
    assert {one.project_id for one in made.data} == {"proj_a", "proj_b"}
    listed = client.fine_tuning.checkpoints.permissions.list(checkpoint)
    assert {one.id for one in listed.data} == {one.id for one in made.data}
    gone = client.fine_tuning.checkpoints.permissions.delete(made.data[0].id, fine_tuned_model_checkpoint=checkpoint)
    assert gone.deleted
    left = client.fine_tuning.checkpoints.permissions.list(checkpoint, project_id="proj_b").data
    assert [one.id for one in left] == [made.data[1].id]
    assert checkpoint in [model.id for model in client.models.list()]
    assert client.models.retrieve(checkpoint).id == checkpoint


def test_a_job_is_an_eval_and_its_rollouts_are_output_items(client: OpenAI, trained: Any) -> None:
    eval_id = trained.eval_id
    runs = client.evals.runs.list(eval_id).data
    assert [run.name for run in runs] == ["Step 0", "Step 1", "Step 2"]
    # The baseline has four rollouts of each of the four samples, later validations one.
    assert [run.result_counts.total for run in runs] == [16, 4, 4]
    assert client.evals.retrieve(eval_id).id == eval_id
    items = list(client.evals.runs.output_items.list(runs[0].id, eval_id=eval_id, limit=2))
    assert len(items) == 16 and len({item.results[0].name for item in items}) == 1
    one = client.evals.runs.output_items.retrieve(items[1].id, eval_id=eval_id, run_id=runs[0].id)
    assert one.sample.output[-1].role == "assistant"
    row = one.datasource_item
    assert row["word"] in VALIDATION_WORDS and row["messages"] == prompt(str(row["word"]))
    assert trained.created_at <= one.created_at <= runs[0].created_at <= trained.finished_at
    assert len(list(client.evals.runs.output_items.list(runs[0].id, eval_id=eval_id, status="pass"))) + len(
        list(client.evals.runs.output_items.list(runs[0].id, eval_id=eval_id, status="fail"))
    ) == len(items)
    assert not client.evals.runs.list(eval_id, status="failed").data
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.list("eval_none")


def test_evals_are_listed_by_the_age_of_their_jobs(client: OpenAI, trained: Any) -> None:
    every: list[Any] = list(client.fine_tuning.jobs.list(limit=100))
    # Jobs of other tests that have no rollouts have no eval.
    jobs = [job.eval_id for job in every if job.eval_id is not None]
    assert [one.id for one in client.evals.list(limit=2, order="desc")] == jobs
    assert [one.id for one in client.evals.list(limit=100)] == jobs[::-1]
    (found,) = [one for one in client.evals.list() if one.id == trained.eval_id]
    assert found.metadata == {"kind": "trained"} and found.created_at == trained.created_at
    with pytest.raises(openai.BadRequestError, match="order_by"):
        client.evals.list(order_by="updated_at")


@pytest.mark.slow
def test_a_paused_job_of_the_queue_waits_until_it_is_resumed(
    client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    long = method(tools.url, hyperparameters={"max_steps": 60, "n_epochs": 50, "eval_interval": 60})
    running = [create(client, files, method=long, extra_body={"dtype": "float32"}).id for _ in range(2)]
    for job_id in running:
        wait_for(client, job_id, "running")
    waiting = create(client, files, method=method(tools.url)).id
    urgent = create(client, files, method=method(tools.url), extra_body={"priority": 5}).id
    for job_id in (waiting, urgent):
        wait_for(client, job_id, "queued")
    assert client.fine_tuning.jobs.pause(waiting).status == "paused"
    started = time.monotonic()
    for job_id in running:
        client.fine_tuning.jobs.cancel(job_id)
    for job_id in running:
        wait_for(client, job_id, "cancelled", timeout_s=15)
    assert time.monotonic() - started < 10
    wait_for(client, urgent, "running", "succeeded")
    assert client.fine_tuning.jobs.retrieve(waiting).status == "paused"
    assert client.fine_tuning.jobs.resume(waiting).status in ("queued", "running")
    for job_id in (waiting, urgent):
        client.fine_tuning.jobs.cancel(job_id)


def test_a_fine_tuned_model_can_be_deleted_and_a_base_model_not(
    client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    job = create(client, files, method=method(tools.url, hyperparameters={"max_steps": 1}))
    name = wait_for(client, job.id, "succeeded").fine_tuned_model
    assert client.models.delete(name).deleted
    with pytest.raises(openai.NotFoundError, match="does not exist here"):
        client.models.retrieve(name)
    with pytest.raises(openai.BadRequestError, match="base model"):
        client.models.delete(MODEL)


def test_machines_can_watch_the_server(server: Live, trained: Any) -> None:
    root = server.url.removesuffix("/v1")
    assert httpx.get(f"{root}/healthz").text == "ok" and httpx.get(f"{root}/readyz").text == "ok"
    text = httpx.get(f"{root}/metrics").text
    assert 'agentrft_jobs{status="succeeded"}' in text and "agentrft_http_answers_total" in text
    described = httpx.get(f"{root}/openapi.json").json()
    assert "/v1/fine_tuning/jobs/{fine_tuning_job_id}/pause" in described["paths"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has loaded is read from /proc")
def test_the_process_that_answers_loads_no_torch(server: Live, trained: Any) -> None:
    assert server.process is not None
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libpython" in loaded or "python3" in loaded
    assert "libtorch" not in loaded, "seconds of start and 250 MB that only workers need"
