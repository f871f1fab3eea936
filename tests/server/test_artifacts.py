"""A server whose files are in a bucket: another machine with the same database and bucket answers and goes on."""

import io
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from cryptography.fernet import Fernet
from openai import OpenAI

from tests.cli.commands import ENVIRONMENT, run_alone
from tests.job.tiny_job import PHASES, TOOL, prompt, serving
from tests.server.buckets import BUCKET, SECRET, bucket, environment, flaky
from tests.server.live import MODEL, QUICK, Live, live, lives, method, open_store, until, upload, wait_for, workers
from tests.traffic.chaos_server import ChaosServer, ok

KEY = Fernet.generate_key().decode()
CHAT_TOOL = {"type": "function", "function": TOOL}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bucket(tmp_path_factory.mktemp("s3") / "log") as url:
        yield url


def variables(url: str) -> dict[str, str]:
    return {**environment(url), "AGENTRFT_SECRET_KEY": KEY}


def elsewhere(server: Live, data_dir: Path, url: str, model: Path) -> Live:
    """The same service on a machine that has nothing but the database, the key and the bucket."""
    data_dir.mkdir(parents=True)
    (data_dir / "models.yaml").write_text(yaml.safe_dump({MODEL: str(model)}))
    if server.database is None:
        (data_dir / "jobs").mkdir()
        for path in (server.data_dir / "jobs").glob("agentrft.db*"):
            shutil.copy(path, data_dir / "jobs")
    # The first machine is gone, with all that was on it.
    shutil.rmtree(server.data_dir)
    other = replace(server, data_dir=data_dir, environment=variables(url), process=None, first=server.data_dir)
    return other.start()


def objects(url: str, prefix: str) -> list[str]:
    found = httpx.get(f"{url}/{BUCKET}?list-type=2&prefix={prefix}").text
    return [part.partition("</Key>")[0] for part in found.split("<Key>")[1:]]


def create(client: OpenAI, files: dict[str, str], tool_url: str) -> str:
    warm_start = {"training_file": files["demonstrations"], "batch_size": 2, "learning_rate": 1e-3}
    return client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        seed=7,
        method=method(tool_url),
        extra_body={**QUICK, "warm_start": warm_start},  # type: ignore[arg-type]
    ).id


def answers(client: OpenAI, job_id: str, files: dict[str, str]) -> dict[str, Any]:
    """All that a client can ask for that is read from files."""
    job = client.fine_tuning.jobs.retrieve(job_id)
    eval_id = job.eval_id  # type: ignore[attr-defined]
    run = client.evals.runs.list(eval_id).data[-1]
    archive = client.get(f"/models/{job.fine_tuned_model}/adapter", cast_to=bytes)
    assert job.fine_tuned_model is not None
    said = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=prompt("apple"),
        tools=[CHAT_TOOL],
        temperature=0,
        max_tokens=48,  # type: ignore[arg-type]
    )
    return {
        "contents": {name: client.files.content(file_id).content for name, file_id in files.items()},
        "checkpoints": [one.fine_tuned_model_checkpoint for one in client.fine_tuning.jobs.checkpoints.list(job_id)],
        "models": {model.id for model in client.models.list()},
        "adapter": {one.filename: one.CRC for one in zipfile.ZipFile(io.BytesIO(archive)).infolist()},
        "items": [item.to_dict() for item in client.evals.runs.output_items.list(run.id, eval_id=eval_id)],
        "said": [call.function for call in said.choices[0].message.tool_calls or [] if call.type == "function"],
    }


@pytest.mark.slow
def test_another_machine_answers_with_files_checkpoints_weights_and_rollouts_of_one_that_is_gone(
    s3: str, tools: ChaosServer, tiny_model: Path, tmp_path: Path
) -> None:
    with live(tmp_path / "one", tiny_model, "--artifacts", f"s3://{BUCKET}/whole", **variables(s3)) as server:
        client = server.client()
        files = upload(client, tmp_path / "rows")
        parted = client.uploads.create(bytes=8, filename="in parts", mime_type="text/plain", purpose="user_data")
        parts = [client.uploads.parts.create(parted.id, data=data).id for data in (b"half", b"done")]
        with pytest.raises(openai.BadRequestError, match="AWS_SECRET_ACCESS_KEY may not be read"):
            stealing = {**TOOL, "server_url": tools.url, "headers": {"X": "${AWS_SECRET_ACCESS_KEY}"}}
            client.fine_tuning.jobs.create(
                model=MODEL,
                training_file=files["train"],
                method=method(tools.url, tools=[stealing]),  # type: ignore[arg-type]
            )
        job_id = create(client, files, tools.url)
        (worker,) = until(lambda: workers(server), "a worker")
        assert "AWS_SECRET_ACCESS_KEY" not in worker.environ()
        wait_for(client, job_id, "succeeded")
        found = answers(client, job_id, files)
        assert len(found["checkpoints"]) == 3 and found["adapter"] and found["items"]
        server.stop()
        assert not [
            path for path in server.data_dir.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
        ]
        other = elsewhere(server, tmp_path / "two", s3, tiny_model)
    try:
        client = other.client()
        assert answers(client, job_id, files) == found
        assert client.uploads.complete(parted.id, part_ids=parts).file is not None
        model = client.fine_tuning.jobs.retrieve(job_id).fine_tuned_model
        assert model is not None
        client.models.delete(model)
        client.files.delete(files["train"])
        assert not objects(s3, f"whole/jobs/{job_id}/checkpoints/step") and not objects(s3, f"whole/files/{parts[0]}")
        assert not objects(s3, f"whole/files/{files['train']}") and objects(s3, f"whole/files/{files['validation']}")
        assert list(client.fine_tuning.jobs.checkpoints.list(job_id)) == []
    finally:
        other.stop()


@pytest.mark.slow
def test_a_paused_job_goes_on_from_its_last_step_on_another_machine_though_the_store_fails_now_and_then(
    s3: str, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ("--artifacts", f"s3://{BUCKET}/paused")
    with serving(ChaosServer(default=ok(delay_s=0.1))) as tools, flaky(s3, every=6) as store:
        with live(tmp_path / "one", tiny_model, *arguments, **variables(store.url)) as server:
            client = server.client()
            job_id = create(client, upload(client, tmp_path / "rows"), tools.url)
            with open_store(server) as record:
                until(lambda: any(row["phase"] == "train" for row in record.metrics(job_id)), "a step")
            client.fine_tuning.jobs.pause(job_id)
            wait_for(client, job_id, "paused")
            with open_store(server) as record:
                done = record.metrics(job_id)
            server.stop()
            other = elsewhere(server, tmp_path / "two", store.url, tiny_model)
        try:
            client = other.client()
            client.fine_tuning.jobs.resume(job_id)
            wait_for(client, job_id, "succeeded")
            with open_store(other) as record:
                metrics = record.metrics(job_id)
                assert not [event.message for event in record.events(job_id) if event.level != "info"]
        finally:
            other.stop()
        assert 0 < len(done) < len(PHASES) and metrics[: len(done)] == done
        assert [(row["phase"], row["step"]) for row in metrics] == PHASES
        assert store.failed > 10
        assert all(times == 1 for key, times in tools.executed.items() if key)


@pytest.mark.slow
def test_a_job_of_a_machine_that_is_lost_in_the_middle_of_a_step_goes_on_by_itself_on_another(
    s3: str, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ("--artifacts", f"s3://{BUCKET}/lost")
    with serving(ChaosServer(default=ok(delay_s=0.1))) as tools:
        with live(tmp_path / "one", tiny_model, *arguments, **variables(s3)) as server:
            client = server.client()
            job_id = create(client, upload(client, tmp_path / "rows"), tools.url)
            with open_store(server) as record:
                until(lambda: record.pending_rollouts(job_id, "train", 2), "the second step")
                (worker,) = workers(server)
                server.kill()
                worker.kill()
                until(lambda: not lives(worker), "it is gone")
                done = record.metrics(job_id)
            other = elsewhere(server, tmp_path / "two", s3, tiny_model)
        try:
            wait_for(other.client(), job_id, "succeeded")
            with open_store(other) as record:
                metrics = record.metrics(job_id)
        finally:
            other.stop()
        assert metrics[: len(done)] == done and [(row["phase"], row["step"]) for row in metrics] == PHASES
        assert all(times == 1 for key, times in tools.executed.items() if key)


def test_while_the_store_is_down_an_upload_is_refused_and_not_half_taken(
    s3: str, tiny_model: Path, tmp_path: Path
) -> None:
    with flaky(s3, every=0) as store:
        arguments = ("--artifacts", f"s3://{BUCKET}/down")
        with live(tmp_path / "one", tiny_model, *arguments, **variables(store.url)) as server:
            client = server.client(max_retries=0)
            store.every = 1
            with pytest.raises(openai.InternalServerError) as refused:
                client.files.create(file=b"rows", purpose="user_data")
            assert refused.value.status_code == 503 and refused.value.code == "artifacts_unavailable"
            assert "Service Unavailable" in refused.value.message and SECRET not in refused.value.message
            assert list(client.files.list()) == []
            store.every = 0
            assert client.files.content(client.files.create(file=b"rows", purpose="user_data").id).content == b"rows"


def test_what_a_data_folder_has_goes_to_a_store_that_is_used_first(s3: str, tiny_model: Path, tmp_path: Path) -> None:
    with live(tmp_path / "one", tiny_model, **variables(s3)) as server:
        made = server.client().files.create(file=b"rows", purpose="user_data")
        server.stop()
        server.arguments += ["--artifacts", f"s3://{BUCKET}/later"]
        server.start()
        server.stop()
        other = elsewhere(server, tmp_path / "two", s3, tiny_model)
    try:
        assert other.client().files.content(made.id).content == b"rows"
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("url", "endpoint", "says"),
    [
        (f"s3://{BUCKET}/a", "http://127.0.0.1:9", "Could not connect to the endpoint"),
        ("s3://not-there/a", None, "bucket does not exist"),
        ("nix://a", None, "Protocol not known"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_at_the_start(
    url: str, endpoint: str | None, says: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(endpoint or s3).items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    ran = run_alone("serve", "--port", "0", "--data-dir", "data", "--artifacts", url, folder=tmp_path)
    assert ran.code == 2 and ran.stdout == ""
    assert says in " ".join(ran.stderr.split()) and SECRET not in ran.stderr
