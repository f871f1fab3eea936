"""Who may ask, and what nobody is shown: keys, header values, webhooks' signatures, a job in the hosted shape."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from openai import OpenAI
from sqlalchemy import create_engine, text

from tests.cli.commands import run_alone
from tests.job.tiny_job import TRAIN_WORDS, VALIDATION_WORDS
from tests.server.live import MODEL, Live, live, wait_for
from tests.store.databases import database_of

SECRET = "sk-planted-in-a-header-0123456789"
GRADER_SECRET = "sk-planted-in-a-grader-0123456789"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FUNCTION = {
    "name": "lookup",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


class Theirs:
    """Servers as somebody writes them who read the wire format and nothing else."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.graded: list[dict[str, Any]] = []
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def tool(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "type" not in body:
            return web.json_response({"error": "not a function call"}, status=422)
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        assert body["type"] == "function_call" and body["call_id"].startswith("call_")
        self.calls.append(body)
        word = json.loads(body["arguments"]).get("word")
        return web.json_response(
            {"type": "function_call_output", "call_id": body["call_id"], "output": f"fine {word}", "id": body["id"]}
        )

    async def grade(self, request: web.Request) -> web.Response:
        if request.headers["X-Grader-Key"] != GRADER_SECRET:
            return web.json_response({"error": "who are you"}, status=401)
        body = await request.json()
        if "sample" not in body:
            return web.json_response({"error": "no sample"}, status=422)
        self.graded.append(body)
        return web.json_response({"score": min(1.0, len(body["sample"]["output_text"]) / 20)})

    async def hook(self, request: web.Request) -> web.Response:
        self.told.append((dict(request.headers), await request.read()))
        return web.Response(status=500 if len(self.told) == 1 else 204)


@asynccontextmanager
async def theirs() -> AsyncIterator[Theirs]:
    servers = Theirs()
    app = web.Application()
    app.router.add_post("/tools/lookup", servers.tool)
    app.router.add_post("/grade", servers.grade)
    app.router.add_post("/hook", servers.hook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    servers.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield servers
    finally:
        await runner.cleanup()


def rows(words: list[str]) -> bytes:
    """As hosted Agent RFT takes them: developer messages, and the tools in each row."""
    return b"".join(
        json.dumps(
            {
                "messages": [
                    {"role": "developer", "content": "Use the tool."},
                    {"role": "user", "content": f"Colour of {word}?"},
                ],
                "tools": [{"type": "function", "function": FUNCTION}],
                "word": word,
            }
        ).encode()
        + b"\n"
        for word in words
    )


def hosted_method(url: str) -> dict[str, Any]:
    """A job in the public shape of hosted Agent RFT."""
    return {
        "type": "reinforcement",
        "reinforcement": {
            "tools": [
                {
                    "name": "lookup",
                    "server_url": f"{url}/tools/lookup",
                    "headers": {"Authorization": f"Bearer {SECRET}"},
                }
            ],
            "grader": {"type": "endpoint", "url": f"{url}/grade", "headers": {"X-Grader-Key": GRADER_SECRET}},
            "max_episode_steps": 4,
            "response_format": {"type": "text"},
            "hyperparameters": {
                "n_epochs": 1,
                "batch_size": 2,
                "compute_multiplier": 0.5,
                "eval_interval": 2,
                "eval_samples": 1,
                "reasoning_effort": "medium",
            },
        },
    }


async def test_a_job_in_the_hosted_shape_succeeds_and_shows_no_header_value(tmp_path: Path, tiny_model: Path) -> None:
    said: list[str] = []

    def drive(server: Live, url: str) -> str:
        client = server.client()
        train = client.files.create(file=("train.jsonl", rows(TRAIN_WORDS)), purpose="fine-tune")
        valid = client.files.create(file=("valid.jsonl", rows(VALIDATION_WORDS)), purpose="fine-tune")
        for one in (train, valid):
            client.files.wait_for_processing(one.id, poll_interval=0.05)
        made = client.fine_tuning.jobs.create(
            model="gpt-4o-2024-08-06",
            training_file=train.id,
            validation_file=valid.id,
            suffix="mine",
            seed=1,
            method=hosted_method(url),  # type: ignore[arg-type]
        )
        said.append(str(made.to_dict(warnings=False)))
        job = wait_for(client, made.id, "succeeded")
        said.append(str(job.to_dict(warnings=False)))
        said.append(str(client.fine_tuning.jobs.list().data))
        said.append(str([event.to_dict() for event in client.fine_tuning.jobs.list_events(made.id, limit=100)]))
        said.append(client.files.content(job.result_files[0]).text)
        said.append(str(client.evals.runs.list(job.eval_id).data))  # type: ignore[attr-defined]
        with pytest.raises(openai.BadRequestError) as refused:
            client.fine_tuning.jobs.create(
                model="gpt-4o-2024-08-06",
                training_file=train.id,
                method={
                    "type": "reinforcement",
                    "reinforcement": {  # type: ignore[typeddict-item]
                        **hosted_method(url)["reinforcement"],
                        "max_episode_steps": "many",
                    },
                },
            )
        said.append(str(refused.value))
        assert "***" in said[0] and job.method.to_dict(warnings=False)["reinforcement"]["max_episode_steps"] == 4
        return job.fine_tuned_model or ""

    data_dir = tmp_path / "data"
    async with theirs() as servers:
        data_dir.mkdir()
        (data_dir / "models.yaml").write_text(f"gpt-4o-2024-08-06: {tiny_model}\n")
        server = Live(data_dir, ["--webhook-url", f"{servers.url}/hook"], {"AGENTRFT_WEBHOOK_SECRET": WEBHOOK_SECRET})
        try:
            await asyncio.to_thread(server.start)
            name = await asyncio.to_thread(drive, server, servers.url)
            async with asyncio.timeout(20):
                while len(servers.told) < 2:
                    await asyncio.sleep(0.1)
        finally:
            await asyncio.to_thread(server.stop)
    assert name.startswith("ft:gpt-4o-2024-08-06:local:mine:")
    assert servers.calls and servers.graded
    # The whole row.
    keys = {frozenset(body["item"]) for body in (*servers.calls, *servers.graded)}
    assert keys == {frozenset(("messages", "tools", "word"))}
    assert {body["trace_id"] for body in servers.calls} & {body["trace_id"] for body in servers.graded}

    unwrapped = [
        OpenAI(api_key="none", webhook_secret=WEBHOOK_SECRET).webhooks.unwrap(body, headers)
        for headers, body in servers.told
    ]
    assert {one.type for one in unwrapped} == {"fine_tuning.job.succeeded"} and len({one.id for one in unwrapped}) == 1

    for secret in (SECRET, GRADER_SECRET):
        assert [one for one in said if secret in one] == []
        holders = [p.name for p in data_dir.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
        assert holders == []
        assert secret not in dump_of_database(data_dir)


def dump_of_database(data_dir: Path) -> str:
    """Every value of every table."""
    url = database_of(data_dir) or f"sqlite:///{data_dir / 'jobs' / 'agentrft.db'}"
    engine = create_engine(url)
    tables = ["jobs", "events", "served_jobs", "files", "metrics", "pending_rollouts", "deliveries", "api_keys"]
    with engine.connect() as connection:
        return str([list(connection.execute(text(f"SELECT * FROM {table}"))) for table in tables])


def test_other_addresses_take_a_key_and_revoked_ones_open_nothing(tmp_path: Path, tiny_model: Path) -> None:
    data_dir = tmp_path / "data"
    given = ["--data-dir", str(data_dir)]
    given += ["--database", str(database_of(data_dir))] if database_of(data_dir) else []
    refused = run_alone("serve", "--host", "0.0.0.0", "--port", "0", *given, folder=tmp_path)
    assert refused.code == 2 and "there is no API key" in refused.stderr
    made = run_alone("keys", "create", "team", *given, "--json", folder=tmp_path).answer
    assert made["key"].startswith("sk-agentrft-")
    assert made["key"] not in dump_of_database(data_dir)
    with live(data_dir, tiny_model, "--require-key") as server:
        assert MODEL in [model.id for model in server.client(made["key"]).models.list()]
        with pytest.raises(openai.AuthenticationError, match="keys create"):
            server.client("sk-agentrft-wrong", max_retries=0).models.list()
        root = server.url.removesuffix("/v1")
        assert httpx.get(f"{root}/v1/models").status_code == httpx.get(f"{root}/metrics").status_code == 401
        assert httpx.get(f"{root}/healthz").status_code == 200
        revoked = run_alone("keys", "revoke", made["id"], *given, folder=tmp_path)
        assert revoked.code == 0
        with pytest.raises(openai.AuthenticationError):
            server.client(made["key"], max_retries=0).models.list()


def test_secrets_are_sealed_with_a_key_that_only_its_owner_reads_and_that_can_be_changed(
    tmp_path: Path, tiny_model: Path
) -> None:
    data_dir = tmp_path / "data"
    given = ["--data-dir", str(data_dir)]
    given += ["--database", str(database_of(data_dir))] if database_of(data_dir) else []
    with live(data_dir, tiny_model) as server:
        client = server.client()
        train = client.files.create(file=("train.jsonl", rows(TRAIN_WORDS)), purpose="fine-tune")
        client.files.wait_for_processing(train.id, poll_interval=0.05)
        method = hosted_method("http://127.0.0.1:9")
        job = client.fine_tuning.jobs.create(model=MODEL, training_file=train.id, method=method)  # type: ignore[arg-type]
        client.fine_tuning.jobs.cancel(job.id)
    key_file = data_dir / "secret.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    before = key_file.read_text()
    assert run_alone("keys", "rotate-secret", *given, "--json", folder=tmp_path).answer == {"jobs": 1}
    assert key_file.read_text() != before and stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key_file.chmod(0o644)
    refused = run_alone("keys", "rotate-secret", *given, folder=tmp_path)
    assert refused.code == 2 and "others can read it" in refused.stderr


def test_code_in_the_servers_name_is_refused_unless_it_was_allowed(tmp_path: Path, tiny_model: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "models.yaml").write_text(f"tiny: {tiny_model}\n")
    server = Live(data_dir, ["--no-allow-code", "--allow-host", "127.0.0.1"])
    try:
        client = server.start().client()
        train = client.files.create(file=("train.jsonl", rows(TRAIN_WORDS)), purpose="fine-tune")
        grader = {"type": "string_check", "input": "x", "reference": "x", "operation": "eq"}
        trusted = {"type": "python", "trusted": True, "source": "def grade(sample, item):\n    return 1"}
        for inner, what in [
            ({"tools": [{"type": "python", "function": "os:system"}], "grader": grader}, "Python function"),
            ({"tools": [{"type": "mcp", "server_label": "a", "command": "sh"}], "grader": grader}, "MCP server"),
            ({"tools": [{**FUNCTION, "url": "http://127.0.0.1:9", "record": "/x"}], "grader": grader}, "record"),
            ({"grader": trusted}, "trusted"),
            ({"tools": [{**FUNCTION, "url": "http://localhost:9"}], "grader": grader}, "not allowed here"),
        ]:
            with pytest.raises(openai.BadRequestError, match=what):
                client.fine_tuning.jobs.create(
                    model="tiny",
                    training_file=train.id,
                    method={"type": "reinforcement", "reinforcement": inner},  # type: ignore[typeddict-item]
                )
        for extra, what in [
            ({"engine": {"type": "vllm", "url": "http://localhost:9"}}, "not allowed here"),
            ({"engine": {"type": "vllm", "url": "http://127.0.0.1:9", "adapters": "/x"}}, "folder of the server's"),
            ({"engine": {"type": "vllm"}}, "engine.url"),
            ({"engine": {"type": "vllm", "command": "touch /tmp/x"}}, "runs on the server's machine"),
            ({"engine": {"type": "vllm", "urls": ["http://127.0.0.1:9"]}}, "several servers"),
            ({"cluster": {"rollout_workers": 2, "address": "ray.example:6379"}}, "cluster.address"),
            ({"cluster": {"engines": 2}}, "cluster.engines"),
        ]:
            with pytest.raises(openai.BadRequestError, match=what):
                client.fine_tuning.jobs.create(
                    model="tiny",
                    training_file=train.id,
                    method={"type": "reinforcement", "reinforcement": {"grader": grader}},  # type: ignore[typeddict-item]
                    extra_body=extra,
                )
        with pytest.raises(openai.BadRequestError, match="trusted"):
            client.fine_tuning.alpha.graders.run(grader=trusted, model_sample="x")  # type: ignore[arg-type]
    finally:
        server.stop()
