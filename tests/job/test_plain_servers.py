"""Servers that worked with hosted Agent RFT, and have no code for anything that it never sent, work unchanged."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrft.data import Sample
from agentrft.graders import create_grader
from agentrft.job.check import check_job
from agentrft.rollout import Rollout, RolloutRunner, RolloutTask
from agentrft.spec import HttpToolSpec, load_job
from agentrft.spec.graders import EndpointGraderSpec
from agentrft.tools import create_toolbox
from tests.job.plain_servers import SERVERS, Seen
from tests.job.scripted import CALL, LIMITS, ScriptedEngine, Write
from tests.job.test_failures import run_new
from tests.job.tiny_job import TOOL, prompt, write_job
from tests.traffic.test_breaker import Listener

ROOT = Path(__file__).parents[2]
# Where `make setup` puts it, if there is npm.
EXPRESS = ROOT / ".venv" / "express" / "node_modules"
ROW = {"messages": prompt("apple"), "answer": "a fruit"}
SAMPLE = Sample("00001-abc", ROW["messages"], item=ROW)
CALL_KEYS = {"type", "id", "call_id", "name", "arguments", "trace_id", "item"}
ROLLOUTS = 6


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Seen]]:
    name = request.param
    if name in ("Node", "Express"):
        if shutil.which("node") is None:
            pytest.skip("there is no node")
        if EXPRESS.is_dir():
            monkeypatch.setenv("NODE_PATH", f"{EXPRESS}{os.pathsep}{os.environ.get('NODE_PATH', '')}")
        found = subprocess.run(["node", "-e", "require.resolve('express')"], capture_output=True, check=False)
        if name == "Express" and found.returncode:
            pytest.skip("there is no package express; `make setup` installs it where there is npm")
    seen = Seen()
    with SERVERS[name](seen) as url:
        yield url, seen


async def roll_out(write: Write, url: str, listener: Listener, **tool: Any) -> list[Rollout]:
    """What a job does of tools and graders: look for them, then roll out and grade."""
    spec = HttpToolSpec.model_validate({**TOOL, "server_url": f"{url}/tool", **tool})
    toolbox = create_toolbox([spec], notify=listener)
    graded = EndpointGraderSpec.model_validate({"type": "endpoint", "url": f"{url}/grade"})
    grader = create_grader(graded, notify=listener)
    engine = ScriptedEngine([write(CALL), write("a fruit")])
    runner = RolloutRunner(codec=write.codec, toolbox=toolbox, grader=grader, limits=LIMITS)

    async def one(index: int) -> Rollout:
        task = RolloutTask(SAMPLE, step=1, index=index, temperature=1.0, top_p=1.0, seed=0, policy_version=3)
        return await runner.run(task, await engine.open())

    try:
        await toolbox.probe(SAMPLE)
        await grader.probe()
        return await asyncio.gather(*(one(index) for index in range(ROLLOUTS)))
    finally:
        await toolbox.close()
        await grader.close()


@pytest.mark.parametrize(
    ("tool", "tried"),
    [
        ({}, None),
        ({"example": {"word": "colour"}}, '{"word": "colour"}'),
        # Made from the schema: none of them knows the word.
        ({"idempotent": True}, '{"word": "example"}'),
        ({"idempotent": False}, None),
    ],
    ids=["as migrated", "with an example", "idempotent", "not idempotent"],
)
async def test_it_sees_what_hosted_sends_and_nothing_else(
    write: Write, server: tuple[str, Seen], tool: dict[str, Any], tried: str | None
) -> None:
    url, seen = server
    listener = Listener()
    rollouts = await roll_out(write, url, listener, **tool)
    assert [(one.outcome, one.reward) for one in rollouts] == [("graded", 1.0)] * ROLLOUTS
    # What Node saw comes through a pipe.
    for _ in range(100):
        if len(seen.requests) >= 2 * ROLLOUTS + (tried is not None):
            break
        await asyncio.sleep(0.02)
    calls = [body for method, path, body in seen.requests if (method, path) == ("POST", "/tool")]
    grades = [body for method, path, body in seen.requests if (method, path) == ("POST", "/grade")]
    assert len(calls) + len(grades) == len(seen.requests), seen.requests
    expected = ['{"word": "apple"}'] * ROLLOUTS
    assert [call["arguments"] for call in calls] == ([] if tried is None else [tried]) + expected
    assert all(set(call) == CALL_KEYS and call["item"] == ROW for call in calls)
    assert {call["trace_id"] for call in calls[-ROLLOUTS:]} == {one.trace_id for one in rollouts}
    assert [set(grade) for grade in grades] == [{"sample", "item", "trace_id"}] * ROLLOUTS
    assert not any("probe" in name for headers in seen.headers for name in headers)
    is_made_up = tool.get("idempotent") is True
    assert [level for level, _ in listener.heard] == ["warning"] * is_made_up


async def test_it_has_no_code_for_an_empty_object(server: tuple[str, Seen]) -> None:
    """Else this file would show nothing."""
    url, _ = server
    async with httpx.AsyncClient() as client:
        try:
            answer = await client.post(f"{url}/tool", json={})
        except httpx.RemoteProtocolError:
            return
    assert answer.status_code in (422, 500)


@pytest.mark.parametrize("name", ["http.server"])
async def test_a_whole_job_and_its_check_run_on_one(name: str, tiny_model: Path, tmp_path: Path) -> None:
    seen = Seen()
    with SERVERS[name](seen) as url:
        job_file = write_job(
            tmp_path,
            tiny_model,
            f"{url}/tool",
            hyperparameters={"max_steps": 1},
            validation_file=None,
            warm_start=None,
        )
        report = await check_job(load_job(job_file), burst=0)
        store, job_id = await run_new(job_file)
    with store:
        assert store.get_job(job_id).status == "succeeded"
    assert report.exit_code == 0
    assert {(method, path) for method, path, _ in seen.requests} == {("POST", "/tool")}
    assert all(set(body) == CALL_KEYS for _, _, body in seen.requests)
