"""The breaker: an endpoint that is down is waited for; a call that it breaks on is not."""

import asyncio
import socket
import time

import pytest

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolFailure, ToolResult
from agentrft.traffic import breaker as breaker_module
from tests.traffic.chaos_server import Behaviour, ChaosServer, ok, status


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "FIRST_INTERVAL_S", 0.05)
    monkeypatch.setattr(breaker_module, "MAX_INTERVAL_S", 0.2)


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
    assert f"tool 'search' at 127.0.0.1:{port} is down (connection)" in listener.heard[0][1]
    assert "answers again after 1 s" in listener.heard[1][1]


async def test_while_an_endpoint_is_down_it_gets_probes_and_no_calls() -> None:
    class Down(ChaosServer):
        """Answers nothing well until its fifth probe."""

        probes = 0

        def _behaviour(self, key: str) -> Behaviour:
            self.probes += key == ""
            return ok() if self.probes >= 5 else status(502)

    async with Down() as server:
        tool = tool_at(server.url, Listener())
        results = await call_many(tool, 16)
        await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 16
    kinds = ["probe" if "X-AgentRFT-Probe" in request.headers else "call" for request in server.received]
    second = [number for number, kind in enumerate(kinds) if kind == "probe"][1]
    assert kinds[second : second + 4] == ["probe"] * 4
    assert kinds[second + 4 :] == ["call"] * 16


async def test_a_call_that_a_working_endpoint_breaks_on_fails_after_its_retries_and_holds_up_no_other() -> None:
    class Picky(ChaosServer):
        def _behaviour(self, key: str) -> Behaviour:
            return status(500) if key.startswith("trace_1") else ok()

    listener = Listener()
    async with Picky() as server:
        tool = tool_at(server.url, listener)
        started = time.monotonic()
        results = await call_many(tool, 15)
        assert time.monotonic() - started < 5
        await tool.close()
    poisonous = [1, 10, 11, 12, 13, 14]
    assert [n for n, result in enumerate(results) if isinstance(result, ToolFailure)] == poisonous
    assert {result.attempts for result in results if isinstance(result, ToolFailure)} == {4}
    assert tool.counters["probes"] > 0
    assert listener.heard == []


async def test_an_endpoint_that_stays_down_fails_its_calls_in_the_end() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    tool = tool_at(url, Listener(), outage_deadline_s=0.4)
    started = time.monotonic()
    results = await call_many(tool, 20)
    assert 0.4 <= time.monotonic() - started < 3
    await tool.close()
    assert {result.kind for result in results if isinstance(result, ToolFailure)} == {"outage"}
    assert len(results) == 20


async def test_a_call_that_may_not_repeat_but_never_arrived_leaves_its_rollout_repeatable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    tool = tool_at(url, Listener(), idempotent=False, outage_deadline_s=0.3)
    results = await call_many(tool, 8)
    await tool.close()
    assert all(isinstance(result, ToolFailure) and result.repeatable for result in results)


async def test_an_endpoint_that_flaps_does_not_hold_a_call_for_ever() -> None:
    class Flapping(ChaosServer):
        def _behaviour(self, key: str) -> Behaviour:
            self.turn = getattr(self, "turn", 0) + 1
            return ok() if not key and self.turn % 2 else status(500)

    async with Flapping() as server:
        tool = tool_at(server.url, Listener(), outage_deadline_s=0.5)
        results = await asyncio.wait_for(call_many(tool, 8), 20)
        await tool.close()
    assert all(isinstance(result, ToolFailure) for result in results)


async def test_a_tool_without_retries_repeats_nothing_when_it_is_down() -> None:
    async with ChaosServer(default=status(500)) as server:
        tool = tool_at(server.url, Listener(), retries=0, outage_deadline_s=0.3)
        results = await call_many(tool, 30)
        await tool.close()
    assert {result.attempts for result in results if isinstance(result, ToolFailure)} <= {0, 1}
    assert len(results) == 30


async def test_a_call_that_may_not_repeat_is_not_repeated_when_the_endpoint_goes_down() -> None:
    async with ChaosServer(default=status(500)) as server:
        tool = tool_at(server.url, Listener(), idempotent=False)
        results = await call_many(tool, 8)
        await tool.close()
    assert all(isinstance(result, ToolFailure) and result.attempts == 1 for result in results)
    assert sum("X-AgentRFT-Probe" not in request.headers for request in server.received) == 8


async def test_closing_stops_the_probes() -> None:
    async with ChaosServer(default=status(500)) as server:
        tool = tool_at(server.url, Listener())
        calls = asyncio.create_task(call_many(tool, 8))
        while tool.counters["probes"] < 2:
            await asyncio.sleep(0.01)
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
        await tool.close()
        probes = tool.counters["probes"]
        await asyncio.sleep(0.5)
        assert tool.counters["probes"] == probes


async def test_single_errors_among_answers_open_nothing() -> None:
    listener = Listener()
    async with ChaosServer(mix=[(0.2, status(500))], seed=1) as server:
        tool = tool_at(server.url, listener)
        results = await call_many(tool, 100)
        await tool.close()
    assert sum(isinstance(result, ToolResult) for result in results) >= 99
    assert listener.heard == []
