"""Rollouts against a tool and a grader that misbehave in every way: none is scored wrongly, none waits without end, and
what broke is counted as the servers themselves count it.

`make test-chaos` takes more rollouts, and an outage of 30 seconds.
"""

import asyncio
import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentrft.graders.endpoint import EndpointGrader
from agentrft.rollout import Rollout, RolloutRunner, RolloutTask
from agentrft.spec import EndpointGraderSpec, HttpToolSpec
from agentrft.tools import HttpTool
from agentrft.traffic import endpoint, waiting
from tests.job.scripted import CALL, LIMITS, SAMPLE, ScriptedEngine, Write, toolbox_of
from tests.traffic.chaos_server import (
    Behaviour,
    ChaosServer,
    bad_json,
    big_body,
    drip,
    hang,
    json_body,
    ok,
    raw,
    reset,
    status,
    truncated,
)

ROLLOUTS = int(os.environ.get("AGENTRFT_CHAOS_ROLLOUTS", "120"))
OUTAGE_S = float(os.environ.get("AGENTRFT_CHAOS_OUTAGE_S", "3"))
# Longer than an honest answer takes where others need the machine, too.
TIMEOUT_S = 2.0
# Each with what a client must take it for; None: something to read.
TOOL_FAULTS: list[tuple[Behaviour, str | None]] = [
    (status(500, "boom"), "server_error"),
    (status(502), "server_error"),
    (status(503, Retry_After="0"), "server_error"),
    (status(429, Retry_After="0"), "rate_limited"),
    (status(408), "timeout"),
    (hang(), "timeout"),
    (drip(), "timeout"),
    (reset(), "connection"),
    (truncated(), "bad_answer"),
    (bad_json(), "bad_answer"),
    (raw(b"\xff\xfe\xfa", content_type="application/json"), "bad_answer"),
    (status(302, Location="http://127.0.0.1:9/elsewhere"), "redirect"),
    (raw(b"<html>fine</html>", content_type="text/html"), None),
    (big_body(10 * 1024 * 1024), None),
    (status(404, "no such thing"), None),
    (status(413, "less"), None),
]
GRADER_FAULTS: list[tuple[Behaviour, str]] = [
    *((behaviour, kind) for behaviour, kind in TOOL_FAULTS if kind is not None),
    (raw(b"<html>1.0</html>", content_type="text/html"), "bad_answer"),
    (big_body(10 * 1024 * 1024), "bad_answer"),
    (status(404, '{"score": 1.0}'), "client_error"),
    (json_body({"score": "1.0"}), "bad_answer"),
    (json_body({"score": None}), "bad_answer"),
    (json_body({}), "bad_answer"),
    (raw(b'{"score": NaN}', content_type="application/json"), "bad_answer"),
    (raw(b'{"score": 1.0', content_type="text/plain"), "bad_answer"),
]
SHARE = 0.25


def score_of(trace_id: str) -> float:
    """What an honest grader says of a rollout."""
    return int(hashlib.sha256(trace_id.encode()).hexdigest()[:6], 16) / 16**6


class Misbehaving(ChaosServer):
    """A quarter of the requests meets a fault; `faults` counts them by trace id and kind, and `served` all."""

    def __init__(self, behaviours: list[tuple[Behaviour, Any]], honest: Any, **options: Any) -> None:
        self.behaviours = behaviours
        self.honest = honest
        self.faults: Counter[tuple[str, str]] = Counter()
        self.served: Counter[str] = Counter()
        self.given = 0
        super().__init__(**options)

    def _behaviour(self, key: str) -> Behaviour:
        body = self.received[-1].body
        trace_id = body["trace_id"]
        self.served[trace_id] += 1
        draw = int(hashlib.sha256(f"{trace_id}/{self.served[trace_id]}".encode()).hexdigest()[:8], 16) / 16**8
        if draw >= SHARE:
            return self.honest(trace_id)
        # In turn: trace ids are random, and so few draws might leave a behaviour out.
        behaviour, kind = self.behaviours[self.given % len(self.behaviours)]
        self.given += 1
        if kind is not None:
            self.faults[trace_id, kind] += 1
        return behaviour


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BACKOFF_S", 0.02)
    monkeypatch.setattr(waiting, "FIRST_INTERVAL_S", 0.1)
    monkeypatch.setattr(waiting, "MAX_INTERVAL_S", 1.0)


@dataclass
class Setting:
    """Rollouts of a scripted agent: one call, then an answer."""

    write: Write
    tool_url: str
    grader_url: str
    heard: list[str] = field(default_factory=list)

    async def run(self, count: int) -> list[Rollout]:
        tool_spec = HttpToolSpec.model_validate({"name": "lookup", "url": self.tool_url, "timeout_s": TIMEOUT_S})
        grader_spec = EndpointGraderSpec.model_validate(
            {"type": "endpoint", "url": self.grader_url, "timeout_s": TIMEOUT_S}
        )
        tool = HttpTool(tool_spec, notify=lambda level, text: self.heard.append(text))
        grader = EndpointGrader(grader_spec, notify=lambda level, text: self.heard.append(text))
        toolbox = toolbox_of(tool)
        engine = ScriptedEngine([self.write(CALL), self.write("red")] * 2)
        runner = RolloutRunner(codec=self.write.codec, toolbox=toolbox, grader=grader, limits=LIMITS)

        async def one(index: int) -> Rollout:
            task = RolloutTask(SAMPLE, step=1, index=index, temperature=1.0, top_p=1.0, seed=0, policy_version=3)
            return await runner.run(task, await engine.open())

        try:
            return await asyncio.gather(*(one(index) for index in range(count)))
        finally:
            await toolbox.close()
            await grader.close()


async def test_no_rollout_is_scored_wrongly_and_every_fault_is_counted_as_the_servers_count_it(write: Write) -> None:
    tool = Misbehaving(TOOL_FAULTS, lambda trace_id: ok("a fruit"))
    grader = Misbehaving(GRADER_FAULTS, lambda trace_id: json_body({"score": score_of(trace_id)}))
    started = time.monotonic()
    async with tool, grader:
        rollouts = await asyncio.wait_for(Setting(write, tool.url, grader.url).run(ROLLOUTS), 300)
    print(
        f"{ROLLOUTS} rollouts, {sum(tool.faults.values())} + {sum(grader.faults.values())} faults, "
        f"{time.monotonic() - started:.1f} s"
    )
    assert {rollout.outcome for rollout in rollouts} == {"graded", "infra_failed"}
    for rollout in rollouts:
        if rollout.outcome == "graded":
            assert rollout.reward == pytest.approx(score_of(rollout.trace_id))
        else:
            assert rollout.reward is None and rollout.failure_kind
        counted = {f"tool:{kind}": n for (trace, kind), n in tool.faults.items() if trace == rollout.trace_id}
        counted |= {f"grader:{kind}": n for (trace, kind), n in grader.faults.items() if trace == rollout.trace_id}
        assert rollout.faults == counted
        assert rollout.tool_requests == tool.served[rollout.trace_id]
    kinds = {kind for _, kind in tool.faults} | {kind for _, kind in grader.faults}
    assert kinds >= {"server_error", "timeout", "connection", "bad_answer", "redirect", "rate_limited"}
    dropped = Counter(rollout.failure_kind for rollout in rollouts if rollout.outcome == "infra_failed")
    assert sum(dropped.values()) == sum(rollout.reward is None for rollout in rollouts)


async def test_an_outage_of_the_tool_and_the_grader_loses_no_rollout(write: Write) -> None:
    async with ChaosServer() as first, ChaosServer() as second:
        tool_port, grader_port = (int(one.url.rpartition(":")[2].partition("/")[0]) for one in (first, second))
        setting = Setting(write, first.url, second.url)
    running = asyncio.create_task(setting.run(ROLLOUTS))
    await asyncio.sleep(OUTAGE_S)
    assert not running.done()
    async with ChaosServer(port=tool_port, default=ok("a fruit")):
        await asyncio.sleep(OUTAGE_S / 2)
        assert not running.done()
        async with ChaosServer(port=grader_port, default=json_body({"score": 0.5})):
            rollouts = await asyncio.wait_for(running, 120)
    assert {(rollout.outcome, rollout.reward) for rollout in rollouts} == {("graded", 0.5)}
    for part in ("tool 'lookup'", "grader 'endpoint'"):
        said = [text for text in setting.heard if part in text]
        assert len(said) == 2 and "is down (connection)" in said[0] and "answers again" in said[1]
