"""The breaker: an endpoint that is down is waited for, and tried by one call at a time."""

import asyncio
import socket
import time

import pytest

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolFailure, ToolResult
from agentrft.traffic import breaker as breaker_module
from tests.traffic.chaos_server import Behaviour, ChaosServer, ok, status


@pytest.fixture(autouse=True)
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "FIRST_TRIAL_S", 0.05)
    monkeypatch.setattr(breaker_module, "MAX_TRIAL_INTERVAL_S", 0.2)


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def __call__(self, level: str, text: str) -> None:
        self.heard.append((level, text))


def tool_at(url: str, listener: Listener, **fields: object) -> HttpTool:
    spec = HttpToolSpec.model_validate({"name": "search", "url": url, "max_concurrency": 16, **fields})
    return HttpTool(spec, backoff_s=0.01, notify=listener)


async def call_many(tool: HttpTool, count: int) -> list[ToolResult | BaseException]:
    calls = [
        tool.call(ToolCall(f"call_{n}", "search", "{}"), trace_id=f"trace_{n}", attempt=1, item={})
        for n in range(count)
    ]
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_an_endpoint_that_is_gone_and_comes_back_loses_no_call() -> None:
    listener = Listener()
    async with ChaosServer() as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
    tool = tool_at(server.url, listener)
    calls = asyncio.create_task(call_many(tool, 50))
    await asyncio.sleep(1.0)
    assert not calls.done()
    async with ChaosServer(port=port) as server:
        results = await asyncio.wait_for(calls, 10)
    await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 50
    assert set(server.executed.values()) == {1}
    assert [level for level, _ in listener.heard] == ["warning", "info"]
    assert "tool 'search' is down (connection)" in listener.heard[0][1]
    assert "answers again after 1 s" in listener.heard[1][1]


async def test_while_an_endpoint_is_down_it_is_tried_by_one_call_at_a_time() -> None:
    down = Behaviour(status=500, delay_s=0.05)
    async with ChaosServer(script=[down] * 16 + [status(500)] * 4, default=ok()) as server:
        tool = tool_at(server.url, Listener())
        results = await call_many(tool, 16)
        await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 16
    # Sixteen went out before anything was known, and then single trials until one was answered.
    assert len(server.received) == 16 + 4 + 16


async def test_a_call_that_the_endpoint_breaks_on_again_and_again_is_given_up() -> None:
    async with ChaosServer(default=status(500)) as server:
        tool = tool_at(server.url, Listener())
        results = await asyncio.wait_for(call_many(tool, 3), 30)
        await tool.close()
    assert all(isinstance(result, ToolFailure) and result.kind == "server_error" for result in results)


async def test_an_endpoint_that_stays_down_fails_its_calls_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "OUTAGE_DEADLINE_S", 0.4)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    tool = tool_at(url, Listener())
    started = time.monotonic()
    results = await call_many(tool, 20)
    assert 0.4 <= time.monotonic() - started < 3
    await tool.close()
    kinds = {result.kind for result in results if isinstance(result, ToolFailure)}
    assert kinds <= {"outage", "connection"} and "outage" in kinds


async def test_a_call_that_may_not_repeat_is_not_repeated_when_the_endpoint_goes_down() -> None:
    async with ChaosServer(default=status(500)) as server:
        tool = tool_at(server.url, Listener(), idempotent=False)
        results = await call_many(tool, 8)
        await tool.close()
    assert all(isinstance(result, ToolFailure) and result.attempts == 1 for result in results)
    assert len(server.received) == 8


async def test_a_trial_that_is_cancelled_makes_room_for_the_next() -> None:
    async with ChaosServer(script=[status(500)] * 8, default=ok(delay_s=0.3)) as server:
        tool = tool_at(server.url, Listener(), max_concurrency=8)
        calls = [
            asyncio.create_task(tool.call(ToolCall(f"c{n}", "search", "{}"), trace_id="t", attempt=1, item={}))
            for n in range(8)
        ]
        while tool.counters["requests"] < 9:
            await asyncio.sleep(0.01)
        for call in calls[:-1]:
            call.cancel()
        assert (await asyncio.wait_for(calls[-1], 10)).status == "ok"
        await asyncio.gather(*calls, return_exceptions=True)
        await tool.close()


async def test_single_errors_among_answers_open_nothing() -> None:
    listener = Listener()
    async with ChaosServer(mix=[(0.2, status(500))], seed=1) as server:
        tool = tool_at(server.url, listener)
        results = await call_many(tool, 100)
        await tool.close()
    assert sum(isinstance(result, ToolResult) for result in results) >= 99
    assert listener.heard == []
