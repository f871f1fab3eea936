"""The breaker: an endpoint that is down is waited for; a call that it breaks on is not."""

import asyncio
import json
import socket
import time

import pytest

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolFailure, ToolResult
from agentrft.traffic import breaker, waiting
from tests.traffic.chaos_server import Behaviour, ChaosServer, ok, reset, status


@pytest.fixture(autouse=True)
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_INTERVAL_S", 0.05)
    monkeypatch.setattr(waiting, "MAX_INTERVAL_S", 0.2)


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def __call__(self, level: str, text: str) -> None:
        self.heard.append((level, text))


def tool_at(url: str, listener: Listener, **fields: object) -> HttpTool:
    spec = HttpToolSpec.model_validate({"name": "search", "url": url, "max_concurrency": 16, **fields})
    return HttpTool(spec, backoff_s=0.01, notify=listener)


async def call_many(tool: HttpTool, count: int) -> list[ToolResult | BaseException]:
    """So many different calls at once."""
    return await asyncio.gather(*(call_one(tool, n) for n in range(count)), return_exceptions=True)


async def call_one(tool: HttpTool, n: int, trace: str = "trace") -> ToolResult:
    call = ToolCall(f"call_{n}", "search", json.dumps({"query": n}))
    return await tool.call(call, trace_id=f"{trace}_{n}", attempt=1, item={})


def assert_only_real_calls(server: ChaosServer) -> None:
    for request in server.received:
        assert request.method == "POST"
        assert set(request.body) == {"type", "id", "call_id", "name", "arguments", "trace_id", "item"}
        assert not any("probe" in name.lower() for name in request.headers)


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


class Down(ChaosServer):
    """Answers as it is told to, until so many requests came."""

    def __init__(self, broken: Behaviour, requests: int) -> None:
        super().__init__()
        self.broken, self.requests = broken, requests
        self.came_at: list[float] = []

    def _behaviour(self, key: str) -> Behaviour:
        self.came_at.append(time.monotonic())
        return self.broken if len(self.received) <= self.requests else ok()


@pytest.mark.parametrize("broken", [status(502), status(500), reset()], ids=["gateway", "error", "dropped"])
async def test_while_an_endpoint_is_down_one_real_call_at_a_time_finds_out(broken: Behaviour) -> None:
    listener = Listener()
    async with Down(broken, 19) as server:
        tool = tool_at(server.url, listener)
        results = await call_many(tool, 16)
        await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 16
    assert set(server.executed.values()) == {1}
    assert_only_real_calls(server)
    gaps = [later - earlier for earlier, later in zip(server.came_at[15:19], server.came_at[16:20], strict=True)]
    assert all(gap > 0.04 for gap in gaps), "each waits for its time"
    assert len({server.received[number].body["trace_id"] for number in range(16, 20)}) == 4, "they take turns"
    assert [level for level, _ in listener.heard] == ["warning", "info"]


class Picky(ChaosServer):
    """Breaks on some calls and answers all others."""

    def __init__(self, broken: Behaviour) -> None:
        super().__init__()
        self.broken = broken

    def _behaviour(self, key: str) -> Behaviour:
        return self.broken if key.startswith("poison") else ok()


@pytest.mark.parametrize("broken", [status(500), reset()], ids=["error", "dropped"])
async def test_calls_that_a_working_endpoint_breaks_on_fail_after_their_retries_and_hold_up_no_other(
    broken: Behaviour,
) -> None:
    listener = Listener()
    async with Picky(broken) as server:
        tool = tool_at(server.url, listener)
        poisonous = [asyncio.create_task(call_one(tool, n, "poison")) for n in range(12)]
        longest_s = 0.0
        answered = 0
        while not all(call.done() for call in poisonous):
            asked = time.monotonic()
            answered += (await call_one(tool, answered)).status == "ok"
            longest_s = max(longest_s, time.monotonic() - asked)
            await asyncio.sleep(0.01)
        failures = await asyncio.gather(*poisonous, return_exceptions=True)
        await tool.close()
    assert all(isinstance(failure, ToolFailure) and failure.attempts <= 6 for failure in failures), failures
    assert longest_s < 1 and answered > 3
    assert listener.heard == []


async def test_calls_that_break_an_endpoint_while_there_are_no_others_are_given_up_and_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "DOUBT_S", 0.5)
    async with Picky(status(500)) as server:
        tool = tool_at(server.url, Listener())
        started = time.monotonic()
        first = await asyncio.gather(*(call_one(tool, n, "poison") for n in range(4)), return_exceptions=True)
        assert 0.5 <= time.monotonic() - started < 5, "they wait longer than an outage that may lose nobody"
        assert (await call_one(tool, 1)).status == "ok", "who has not failed is not held up by them"
        started = time.monotonic()
        again = await asyncio.gather(*(call_one(tool, n, "poison") for n in range(4)), return_exceptions=True)
        assert time.monotonic() - started < 0.5, "four are too few of an endpoint that is known to break on calls"
        await tool.close()
    assert {getattr(one, "kind", one) for one in [*first, *again]} == {"server_error"}


async def test_an_endpoint_that_refuses_connections_is_waited_for_longer_than_one_that_may_be_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "DOUBT_S", 0.3)
    async with ChaosServer(default=reset()) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        tool = tool_at(server.url, Listener())
        calls = asyncio.create_task(call_many(tool, 8))
        while len(server.received) < 8:
            await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)
    async with ChaosServer(port=port):
        results = await asyncio.wait_for(calls, 10)
    await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 8


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
        """Answers one kind of call, in between, and never the other."""

        def _behaviour(self, key: str) -> Behaviour:
            return ok() if key.startswith("other") else status(502)

    async with Flapping() as server:
        tool = tool_at(server.url, Listener(), outage_deadline_s=0.5)
        calls = asyncio.create_task(call_many(tool, 8))
        number = 0
        while not calls.done():
            await call_one(tool, number, "other")
            number += 1
            await asyncio.sleep(0.02)
        results = await asyncio.wait_for(calls, 20)
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
    assert len(server.received) == 8


async def test_in_an_outage_only_trials_cost_calls_that_may_not_repeat() -> None:
    listener = Listener()
    async with Down(status(502), 10) as server:
        tool = tool_at(server.url, listener, idempotent=False, max_concurrency=4)
        results = await call_many(tool, 40)
        await tool.close()
    assert sum(isinstance(result, ToolFailure) for result in results) == 10
    assert max(server.executed.values()) == 1 and len(server.received) == 40, "none is sent twice"
    assert [level for level, _ in listener.heard] == ["warning", "info"]


async def test_who_waits_and_is_cancelled_leaves_its_turn_to_the_next() -> None:
    async with ChaosServer() as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
    tool = tool_at(server.url, Listener())
    calls = [asyncio.create_task(call_one(tool, n)) for n in range(10)]
    while not tool.endpoint.gate.breaker.is_open:
        await asyncio.sleep(0.01)
    for call in calls[:9]:
        call.cancel()
        await asyncio.sleep(0.03)
    async with ChaosServer(port=port):
        assert (await asyncio.wait_for(calls[9], 10)).status == "ok"
    await tool.close()


async def test_nothing_is_sent_after_closing() -> None:
    async with ChaosServer(default=status(502)) as server:
        tool = tool_at(server.url, Listener())
        calls = asyncio.create_task(call_many(tool, 8))
        while len(server.received) < 10:
            await asyncio.sleep(0.01)
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
        await tool.close()
        sent = len(server.received)
        await asyncio.sleep(0.5)
        assert len(server.received) == sent


async def test_single_errors_among_answers_open_nothing() -> None:
    listener = Listener()
    async with ChaosServer(mix=[(0.2, status(500))], seed=1) as server:
        tool = tool_at(server.url, listener)
        results = await call_many(tool, 100)
        await tool.close()
    assert sum(isinstance(result, ToolResult) for result in results) >= 99
    assert listener.heard == []
