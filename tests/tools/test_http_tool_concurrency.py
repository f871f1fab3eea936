"""Many calls at once: bounded, backing off at 429, and none lost among random faults."""

import asyncio

import pytest

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolResult
from tests.traffic.chaos_server import ChaosServer, ok, reset, status, truncated


def tool_at(server: ChaosServer, **fields: object) -> HttpTool:
    return HttpTool(HttpToolSpec.model_validate({"name": "search", "url": server.url, **fields}), backoff_s=0.02)


async def call_many(tool: HttpTool, count: int) -> list[ToolResult]:
    calls = [
        tool.call(ToolCall(f"call_{n}", "search", "{}"), trace_id=f"trace_{n}", attempt=1, item={})
        for n in range(count)
    ]
    results = await asyncio.gather(*calls)
    await tool.close()
    return results


async def test_concurrent_calls_never_exceed_the_tools_bound_and_do_reach_it() -> None:
    async with ChaosServer(script=[ok(delay_s=0.5)] * 8) as server:
        results = await call_many(tool_at(server, max_concurrency=8), 96)
    assert [result.status for result in results] == ["ok"] * 96
    assert server.max_in_flight == 8


async def test_a_server_that_answers_429_above_a_bound_loses_no_call() -> None:
    async with ChaosServer(default=ok(delay_s=0.01), limit_in_flight=16) as server:
        tool = tool_at(server, max_concurrency=128)
        results = await call_many(tool, 300)
    assert [result.status for result in results] == ["ok"] * 300
    assert server.refused == tool.counters["rate_limit_waits"]


async def test_random_faults_lose_no_call_and_execute_none_twice() -> None:
    # 15 % of the requests fail for good reason to retry: four attempts in a row do so with a chance of 0.05 %.
    mix = [(0.05, status(500)), (0.05, reset()), (0.05, truncated()), (0.05, status(429, Retry_After="0"))]
    async with ChaosServer(mix=mix, seed=3) as server:
        tool = tool_at(server, max_concurrency=64)
        results = await call_many(tool, 200)
    assert [result.status for result in results] == ["ok"] * 200
    assert set(server.executed.values()) == {1}
    assert len(server.received) == tool.counters["requests"] == sum(result.attempts for result in results)
    assert tool.counters["retries"] > 0


async def test_cancelling_a_call_frees_its_slot() -> None:
    async with ChaosServer(default=ok(delay_s=1.0)) as server:
        tool = tool_at(server)
        call = tool.call(ToolCall("call_1", "search", "{}"), trace_id="trace_1", attempt=1, item={})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.1)
        assert tool.endpoint.gate.limiter.in_flight == 0
        await tool.close()
