"""A secret of its own in every header, key, URL and environment of a job; afterwards they are looked for everywhere.

All servers say back what they were sent: in answers, in errors, in verdicts.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from agentrft.errors import AgentRFTError, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.check import check_job
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from agentrft.traffic import endpoint as endpoint_module
from tests.cli.commands import run_here
from tests.job.tiny_job import TOOL, write_job

MCP_SERVER = Path(__file__).parents[1] / "tools" / "mcp_server.py"
PLACES = [
    "TOOL",
    "PLAIN",
    "PASSWORD",
    "QUERY",
    "MCP",
    "START",
    "END",
    "ENDPOINT",
    "JUDGE",
    "JUDGE_HEADER",
    "HOLDOUT",
]
SECRETS = {place: f"sk-planted-{place.lower()}-0123456789abcdef" for place in PLACES}


class Echo:
    """Tells everybody what it was sent; every third request gets it as an error."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.count = 0

    async def handle(self, request: web.Request) -> web.Response:
        text = f"{dict(request.headers)} {request.path_qs}"
        self.seen |= {place for place, secret in SECRETS.items() if secret in text}
        self.seen |= {"PASSWORD"} if request.headers.get("Authorization", "").startswith("Basic ") else set()
        self.count += 1
        if self.count % 5 == 0:
            return web.Response(status=500, text=f"failed: {text}", reason="failed for " + SECRETS["TOOL"])
        if request.path.endswith("/grade"):
            return web.json_response({"score": 0.1 * (self.count % 7), "reason": text, "sub_scores": {"a": 1.0}})
        if request.path.endswith("/chat/completions"):
            verdict = {"steps": [{"description": text, "conclusion": text}], "result": 0.3}
            message = {"role": "assistant", "content": json.dumps(verdict)}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        return web.json_response({"output": f"fine {text}"})


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Echo, str]]:
    server = Echo()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield server, f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def write(folder: Path, model: Path, host: str) -> Path:
    def key(place: str) -> dict[str, str]:
        return {"X-Api-Key": f"${{{place}}}"}

    message = {"role": "user", "content": "{{ sample.output_text }}"}
    judge = {
        "type": "score_model",
        "model": "j",
        "base_url": f"http://{host}/v1",
        "api_key_env": "JUDGE",
        "headers": key("JUDGE_HEADER"),
        "input": [message],
    }
    job_file = write_job(folder, model, f"http://{host}/tool", validation_file=None, warm_start=None)
    job = yaml.safe_load(job_file.read_text())
    inner = job["method"]["reinforcement"]
    inner["tools"] = [
        {
            **TOOL,
            "server_url": f"http://user:{SECRETS['PASSWORD']}@{host}/tool?code={SECRETS['QUERY']}",
            "headers": {"X-Tool": "${TOOL}"},
        },
        {"name": "plain", "format": "plain", "server_url": f"http://{host}/plain", "headers": key("PLAIN")},
        {
            "type": "mcp",
            "server_label": "catalogue",
            "command": sys.executable,
            "args": [str(MCP_SERVER)],
            "env": {"CATALOGUE_KEY": "${MCP}"},
            "allowed_tools": ["secret"],
        },
    ]
    inner["on_rollout_start"] = {"url": f"http://{host}/start", "headers": key("START")}
    inner["on_rollout_end"] = {"url": f"http://{host}/end", "headers": key("END")}
    server = {"type": "endpoint", "url": f"http://{host}/grade", "headers": key("ENDPOINT")}
    inner["grader"] = {
        "type": "multi",
        "graders": {"server": server, "judge": judge},
        "calculate_output": "server + judge",
    }
    inner["holdout_graders"] = {"other": {**server, "headers": key("HOLDOUT")}}
    inner["hyperparameters"] |= {"max_steps": 2, "batch_size": 2, "max_tokens_per_turn": 64, "max_context_tokens": 512}
    job_file.write_text(yaml.safe_dump(job))
    return job_file


async def test_planted_secrets_are_in_no_file_log_event_answer_or_message(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setattr(endpoint_module, "BACKOFF_S", 0.01)
    for place, secret in SECRETS.items():
        monkeypatch.setenv(place, secret)
    said: list[str] = []
    async with echo() as (server, host):
        job_file = write(tmp_path, tiny_model, host)
        spec = load_job(job_file)
        report = await check_job(spec, burst=6)
        said += [str(report.as_dict()), repr(spec)]
        assert {tool.name for tool in report.tools} == {"lookup", "plain", "secret"}
        store, job_id = create_job(spec, source=job_file)
        with store:
            stop = Stop()
            stop.request()
            with pytest.raises(AgentRFTError):
                await run_job(spec, store, job_id, progress=NoProgress(), stop=stop)
            await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
            assert store.get_job(job_id).status == "succeeded"
            said += [str(store.events(job_id)), str(store.get_job(job_id)), str(store.metrics(job_id))]
        monkeypatch.delenv("TOOL")
        with pytest.raises(UserError) as missing:
            resume_job(JobStore(tmp_path / "runs"), job_id)
        said.append(str(missing.value))
    for command in (["rollouts", "latest", "--limit", "50"], ["events", "latest"], ["jobs", "--json"]):
        ran = run_here(*command, "--output-dir", str(tmp_path / "runs"))
        assert ran.code == 0
        said += [ran.stdout, ran.stderr]

    assert server.seen == set(PLACES) - {"MCP"}, "each was really sent"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    records = [str(read_rollouts(path)) for path in files if path.suffix == ".parquet"]
    assert any("[redacted]" in record for record in records), "the servers said them back"
    captured = capsys.readouterr()
    said += [caplog.text, captured.out, captured.err, *records]
    for place, secret in SECRETS.items():
        holders = [path.name for path in files if secret.encode() in path.read_bytes()]
        assert holders == (["job.yaml"] if place in ("PASSWORD", "QUERY") else []), place
        assert [text[max(0, text.index(secret) - 200) :][:300] for text in said if secret in text] == [], place
