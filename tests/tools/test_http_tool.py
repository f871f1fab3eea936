"""What one tool call sends, what each answer means, and when it is repeated."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolFailure, ToolResult, create_toolbox
from agentrft.traffic import MAX_BODY_BYTES
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

CALL = ToolCall("call_1", "search", '{"query": "naïve 東京 🦀"}')
ITEM = {"answer": "Zürich 北京 🚀", "id": 7}
MakeTool = Callable[..., HttpTool]


@pytest.fixture
async def make_tool() -> AsyncIterator[MakeTool]:
    tools: list[HttpTool] = []

    def make(url: str, **fields: Any) -> HttpTool:
        spec = HttpToolSpec.model_validate({"name": "search", "url": url, "timeout_s": 5.0, **fields})
        tools.append(HttpTool(spec, backoff_s=0.01))
        return tools[-1]

    yield make
    for tool in tools:
        await tool.close()


async def run(tool: HttpTool, call: ToolCall = CALL) -> ToolResult:
    return await tool.call(call, trace_id="trace_abc", attempt=2, item=ITEM)


async def failure_of(tool: HttpTool) -> ToolFailure:
    with pytest.raises(ToolFailure) as raised:
        await run(tool)
    return raised.value


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def test_the_request_has_the_documented_body_and_headers(make_tool: MakeTool) -> None:
    async with ChaosServer(script=[ok("grüße 🦀")]) as server:
        result = await run(make_tool(server.url, headers={"Authorization": "Bearer abc"}))
    assert (result.output, result.status, result.attempts) == ("grüße 🦀", "ok", 1)
    (received,) = server.received
    assert received.method == "POST"
    assert received.body == {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "search",
        "arguments": CALL.arguments,
        "trace_id": "trace_abc",
        "item": ITEM,
    }
    sent = {name: received.headers[name] for name in ("Authorization", "X-Trace-Id", "X-Attempt", "Idempotency-Key")}
    assert list(sent.values()) == ["Bearer abc", "trace_abc", "2", "trace_abccall_1"]
    assert received.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (json_body({"output": "text", "call_id": "x"}), "text"),
        (json_body({"output": {"größe": [1, 2]}}), '{"größe": [1, 2]}'),
        (json_body({"output": None}), "null"),
        (json_body({"output": ""}), ""),
        (raw(b'{"rows":  [1]}', content_type="application/json"), '{"rows":  [1]}'),
        (raw(b"[1, 2]", content_type="application/json"), "[1, 2]"),
        (raw("schlicht 東京".encode()), "schlicht 東京"),
        (raw(b'{"half'), '{"half'),
        (raw(b"\xfcber", content_type="text/plain; charset=latin-1"), "über"),
        (raw(b'\xef\xbb\xbf{"output": "after a byte order mark"}'), "after a byte order mark"),
        (raw(b"", content_type="application/json"), ""),
        (status(204), ""),
        (raw(b'{"output": "a \\ud800 b"}', content_type="application/json"), "a \ufffd b"),
        (raw(b"[" * 100_000), "[" * 100_000),
    ],
)
async def test_a_successful_answer_becomes_this_text(make_tool: MakeTool, answer: Behaviour, output: str) -> None:
    async with ChaosServer(script=[answer]) as server:
        result = await run(make_tool(server.url))
    assert (result.output, result.status) == (output, "ok")


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (status(400, "no such column: größe"), "no such column: größe"),
        (json_body({"error": "bad query"}, status=422), "bad query"),
        (json_body({"error": {"code": 3}}, status=400), '{"code": 3}'),
        (json_body({"output": "not found"}, status=404), "not found"),
        (json_body({"detail": ["x"]}, status=422), '{"detail": ["x"]}'),
        (status(409), "HTTP 409"),
    ],
)
async def test_a_client_error_is_shown_to_the_model_and_not_repeated(
    make_tool: MakeTool, answer: Behaviour, output: str
) -> None:
    async with ChaosServer(script=[answer]) as server:
        tool = make_tool(server.url)
        result = await run(tool)
    assert (result.output, result.status, result.attempts) == (output, "client_error", 1)
    assert tool.counters == {"requests": 1, f"client_error:{answer.status}": 1}


@pytest.mark.parametrize("fault", [status(500), status(503), status(408), hang(), reset(), truncated(), bad_json()])
async def test_a_passing_fault_is_repeated_with_the_same_idempotency_key(make_tool: MakeTool, fault: Behaviour) -> None:
    async with ChaosServer(script=[fault, fault, ok("at last")]) as server:
        tool = make_tool(server.url, timeout_s=0.5 if fault.kind == "hang" else 5.0)
        result = await run(tool)
    assert (result.output, result.attempts) == ("at last", 3)
    assert {received.headers["Idempotency-Key"] for received in server.received} == {"trace_abccall_1"}
    assert {received.headers["X-Attempt"] for received in server.received} == {"2"}
    assert tool.counters == {"requests": 3, "retries": 2, "ok": 1}
    assert sum(result.faults.values()) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(500, "boom"), "server_error"),
        (status(408), "timeout"),
        (hang(), "timeout"),
        (reset(), "connection"),
        (truncated(), "bad_answer"),
        (bad_json(), "bad_answer"),
    ],
)
async def test_a_lasting_fault_is_raised_by_its_kind_after_the_retries(
    make_tool: MakeTool, fault: Behaviour, kind: str
) -> None:
    async with ChaosServer(default=fault) as server:
        tool = make_tool(server.url, timeout_s=0.3 if fault.kind == "hang" else 5.0, retries=2)
        failure = await failure_of(tool)
    assert (failure.tool, failure.kind, failure.attempts, len(server.received)) == ("search", kind, 3, 3)
    assert failure.faults == {kind: 3}
    assert tool.counters == {"requests": 3, "retries": 2, f"failure:{kind}": 1}


async def test_a_refused_connection_is_repeated_and_then_raised(make_tool: MakeTool) -> None:
    failure = await failure_of(make_tool(f"http://127.0.0.1:{unused_port()}/tool", retries=1))
    assert (failure.kind, failure.attempts) == ("connection", 2)


async def test_an_answer_that_drips_past_the_time_out_is_a_time_out(make_tool: MakeTool) -> None:
    async with ChaosServer(default=drip()) as server:
        failure = await failure_of(make_tool(server.url, timeout_s=0.1, retries=0))
    assert failure.kind == "timeout"


async def test_text_that_cannot_be_decoded_is_a_bad_answer(make_tool: MakeTool) -> None:
    async with ChaosServer(script=[raw(b"\xff\xfe\xfa")]) as server:
        failure = await failure_of(make_tool(server.url))
    assert (failure.kind, failure.attempts) == ("bad_answer", 1)


async def test_a_redirect_is_not_followed_and_the_failure_says_where_it_points(make_tool: MakeTool) -> None:
    there = "https://user:pw@elsewhere.example/login?ticket=hidden"
    async with ChaosServer(default=status(307, Location=there)) as server:
        failure = await failure_of(make_tool(server.url))
    assert (failure.kind, failure.attempts) == ("redirect", 1)
    assert "https://elsewhere.example/login" in str(failure)
    assert "hidden" not in str(failure) and "pw" not in str(failure)


@pytest.mark.parametrize("fault", [status(500), status(429), hang(), reset(), truncated()])
async def test_a_tool_that_may_not_repeat_is_called_once_when_the_call_may_have_arrived(
    make_tool: MakeTool, fault: Behaviour
) -> None:
    async with ChaosServer(default=fault) as server:
        failure = await failure_of(make_tool(server.url, timeout_s=0.3, idempotent=False))
    assert (failure.attempts, len(server.received)) == (1, 1)


async def test_a_tool_that_may_not_repeat_is_repeated_while_its_connection_is_refused(make_tool: MakeTool) -> None:
    failure = await failure_of(make_tool(f"http://127.0.0.1:{unused_port()}/tool", idempotent=False))
    assert (failure.kind, failure.attempts) == ("connection", 4)


async def test_connections_are_kept_except_for_a_tool_that_may_not_repeat(make_tool: MakeTool) -> None:
    ports = {}
    for idempotent in (True, False):
        async with ChaosServer() as server:
            tool = make_tool(server.url, idempotent=idempotent)
            for _ in range(3):
                await run(tool)
        ports[idempotent] = len({received.peer_port for received in server.received})
    assert ports == {True: 1, False: 3}


async def test_cookies_are_not_carried_from_one_call_to_the_next(make_tool: MakeTool) -> None:
    async with ChaosServer(default=status(200, "fine", Set_Cookie="session=1; Path=/")) as server:
        # Cookies of bare IP addresses are dropped by aiohttp anyway.
        tool = make_tool(server.url.replace("127.0.0.1", "localhost"))
        await run(tool)
        await run(tool)
    assert ["Cookie" in received.headers for received in server.received] == [False, False]


async def test_a_request_over_the_limit_is_not_sent(make_tool: MakeTool) -> None:
    async with ChaosServer() as server:
        result = await run(make_tool(server.url), ToolCall("call_1", "search", "ü" * (MAX_BODY_BYTES // 2)))
    assert (result.status, result.attempts, server.received) == ("too_large", 0, [])
    assert result.output.startswith("413 ")


@pytest.mark.parametrize("answer", [big_body(MAX_BODY_BYTES + 1), big_body(3 * MAX_BODY_BYTES), status(413, "less!")])
async def test_an_answer_over_the_limit_becomes_a_413_text(make_tool: MakeTool, answer: Behaviour) -> None:
    async with ChaosServer(script=[answer]) as server:
        result = await run(make_tool(server.url))
    assert (result.status, result.attempts) == ("too_large", 1)
    assert result.output.startswith("413 ") and len(result.output) < 200


async def test_an_answer_at_the_limit_is_passed_on(make_tool: MakeTool) -> None:
    async with ChaosServer(script=[big_body(MAX_BODY_BYTES)]) as server:
        result = await run(make_tool(server.url))
    assert (result.status, len(result.output)) == ("ok", MAX_BODY_BYTES)


async def test_half_a_surrogate_pair_in_the_arguments_is_sent_as_the_replacement_character(make_tool: MakeTool) -> None:
    async with ChaosServer() as server:
        await run(make_tool(server.url), ToolCall("call_1", "search", "\ud83d"))
    assert server.received[0].body["arguments"] == "\ufffd"


async def test_a_call_id_cannot_smuggle_in_a_header(make_tool: MakeTool) -> None:
    async with ChaosServer() as server:
        await run(make_tool(server.url), ToolCall("call_\r\nX-Evil: 1", "search", "{}"))
    assert server.received[0].headers["Idempotency-Key"] == "trace_abccall_%0D%0AX-Evil%3A%201"


async def test_429_waits_as_long_as_retry_after_says_and_lowers_the_slots(make_tool: MakeTool) -> None:
    async with ChaosServer(script=[status(429, Retry_After="1"), ok()]) as server:
        tool = make_tool(server.url, retries=0)
        result = await run(tool)
    assert result.attempts == 2
    assert result.latency_s >= 1.0
    assert tool.endpoint.gate.limiter.limit == 0.85 * 32  # one call at a time does not bring slots back
    assert tool.counters == {"requests": 2, "rate_limit_waits": 1, "ok": 1}


async def test_429_without_end_is_raised_as_rate_limited(make_tool: MakeTool) -> None:
    async with ChaosServer(default=status(429, Retry_After="0")) as server:
        tool = HttpTool(HttpToolSpec.model_validate({"name": "search", "url": server.url}), backoff_s=0.0001)
        failure = await failure_of(tool)
        await tool.close()
    assert (failure.kind, failure.attempts) == ("rate_limited", 11)


async def test_waiting_for_a_slot_has_a_deadline(make_tool: MakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrft.traffic.endpoint.QUEUE_DEADLINE_S", 0.05)
    async with ChaosServer(default=hang()) as server:
        tool = make_tool(server.url, timeout_s=0.5, retries=0, max_concurrency=1)
        holding = asyncio.create_task(run(tool))
        await asyncio.sleep(0)
        failure = await failure_of(tool)
        assert (failure.kind, failure.attempts) == ("timeout", 0)
        assert "no free slot within 0.05 s" in str(failure)
        with pytest.raises(ToolFailure, match="no answer within"):
            await holding


async def test_the_whole_call_has_a_deadline(make_tool: MakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ChaosServer(default=hang()) as server:
        tool = make_tool(server.url, timeout_s=0.2)
        monkeypatch.setattr(tool.endpoint, "deadline_s", 0.1)
        failure = await failure_of(tool)
    assert (failure.kind, failure.attempts) == ("timeout", 1)
    assert "deadline of 0.1 s" in str(failure)


async def test_a_tool_can_be_used_again_in_another_event_loop() -> None:
    async with ChaosServer() as server:
        spec = HttpToolSpec.model_validate({"name": "search", "url": server.url})
        tool = HttpTool(spec)

        async def probe_and_close() -> None:
            await tool.probe(None)
            await tool.close()

        await asyncio.to_thread(asyncio.run, probe_and_close())
        assert (await run(tool)).status == "ok"
        await tool.close()


async def test_create_toolbox_gives_each_tool_under_its_name() -> None:
    specs = [HttpToolSpec.model_validate({"name": name, "url": "http://127.0.0.1:1/"}) for name in ("a", "b")]
    assert {name: tool.name for name, tool in create_toolbox(specs).tools.items()} == {"a": "a", "b": "b"}


async def test_a_tool_answer_does_not_depend_on_the_answers_call_id(make_tool: MakeTool) -> None:
    body = json.dumps({"type": "function_call_output", "call_id": "call_other", "output": "x"}).encode()
    async with ChaosServer(script=[raw(body, content_type="application/json")]) as server:
        assert (await run(make_tool(server.url))).output == "x"
