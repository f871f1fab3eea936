import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from agentrft.errors import UserError
from agentrft.graders import GraderFailure, GraderSample
from agentrft.graders.endpoint import EndpointGrader
from agentrft.spec.graders import EndpointGraderSpec

SAMPLE = GraderSample('{"code": "E11"}', output_tools=[{"id": "1", "function": {"name": "search", "arguments": "{}"}}])
SECRET = "Bearer sk-very-secret"


@dataclass
class Server:
    """A grading server that gives its answers in turn, and the last one for ever."""

    answers: list[web.Response | Callable[[web.Request], Awaitable[web.Response]]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.times.append(time.monotonic())
        self.headers.append(dict(request.headers))
        self.requests.append(await request.json())
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if callable(answer):
                return await answer(request)
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        finally:
            self.in_flight -= 1


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_post("/grade", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/grade"
    yield server
    await runner.cleanup()


@pytest.fixture
async def make(server: Server) -> AsyncIterator[Callable[..., EndpointGrader]]:
    graders: list[EndpointGrader] = []

    def _make(**fields: Any) -> EndpointGrader:
        fields = {"url": server.url, "headers": {"Authorization": SECRET}, "name": "mine", **fields}
        graders.append(EndpointGrader(EndpointGraderSpec(type="endpoint", **fields), backoff_s=0.001))
        return graders[-1]

    yield _make
    for grader in graders:
        await grader.close()


def answered(body: Any, status: int = 200, **headers: str) -> web.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return web.Response(status=status, body=text.encode(), headers=headers)


async def failure(grader: EndpointGrader) -> GraderFailure:
    with pytest.raises(GraderFailure) as error:
        await grader.grade(SAMPLE, item={}, trace_id="trace_1")
    assert "sk-very-secret" not in str(error.value)
    return error.value


async def test_the_server_gets_the_sample_the_item_and_the_headers(server: Server, make) -> None:
    server.answers = [answered({"score": 0.5, "reason": "half", "sub_scores": {"style": 1}})]
    grade = await make().grade(SAMPLE, item={"answer": "E11"}, trace_id="trace_7")
    assert (grade.score, grade.reason, grade.sub_scores) == (0.5, "half", {"style": 1.0})
    assert grade.latency_s > 0
    (request,) = server.requests
    assert set(request) == {"sample", "item", "trace_id"}
    assert request["trace_id"] == "trace_7"
    assert request["item"] == {"answer": "E11"}
    assert request["sample"]["output_text"] == '{"code": "E11"}'
    assert request["sample"]["output_json"] == {"code": "E11"}
    assert request["sample"]["output_tools"][0]["function"]["name"] == "search"
    assert request["sample"]["choices"][0]["message"]["content"] == '{"code": "E11"}'
    assert server.headers[0]["Authorization"] == SECRET
    assert server.headers[0]["X-Trace-Id"] == "trace_7"


async def test_a_server_that_recovers_is_asked_again(server: Server, make) -> None:
    server.answers = [answered("", 503), answered("busy", 429, **{"Retry-After": "0"}), answered({"score": 1})]
    grade = await make().grade(SAMPLE, item={}, trace_id="t")
    assert grade.score == 1.0
    assert len(server.requests) == 3
    assert grade.faults == {"server_error": 1, "rate_limited": 1}
    assert grade.errors == ["server_error: HTTP 503", "rate_limited: HTTP 429: busy"]


@pytest.mark.parametrize(
    ("status", "kind", "requests"), [(500, "server_error", 4), (503, "server_error", 4), (429, "rate_limited", 11)]
)
async def test_a_server_that_stays_broken_is_a_failure_after_the_retries(
    server: Server, make, status: int, kind: str, requests: int
) -> None:
    server.answers = [answered("out of order", status)]
    found = await failure(make())
    assert (found.kind, found.faults) == (kind, {kind: requests})
    assert len(server.requests) == requests


async def test_without_retries_a_broken_server_is_asked_once(server: Server, make) -> None:
    server.answers = [answered("out of order", 500)]
    await failure(make(retries=0))
    assert len(server.requests) == 1


async def test_a_refusal_is_a_failure_at_once_and_shows_the_servers_words(server: Server, make) -> None:
    server.answers = [answered(f"no such item, you sent {SECRET}", 422)]
    found = await failure(make())
    assert (found.kind, found.faults) == ("client_error", {"client_error": 1})
    assert "422" in str(found) and "no such item" in str(found)
    assert len(server.requests) == 1


async def test_a_redirect_is_not_followed(server: Server, make) -> None:
    server.answers = [answered("", 307, Location=server.url), answered({"score": 1})]
    assert (await failure(make())).kind == "redirect"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "null",
        "[1]",
        "1.0",
        "{}",
        '{"Score": 1}',
        '{"score": null}',
        '{"score": "1.0"}',
        '{"score": NaN}',
        '{"score": Infinity}',
        '{"score": 1e999}',
        '{"score": [1]}',
        '{"score": 1' + "0" * 400 + "}",
        '{"score": 1, "sub_scores": {"a": "x"}}',
        '{"score": 1, "sub_scores": [1]}',
        '{"score": 1, "padding": "' + "x" * 1_100_000 + '"}',
        b"\xff\xfe\xfa".decode("latin-1"),
    ],
)
async def test_an_answer_without_a_finite_score_is_a_failure(server: Server, make, body: str) -> None:
    server.answers = [answered(body)]
    assert (await failure(make())).kind == "bad_answer"
    assert len(server.requests) == 1


async def test_an_unusable_answer_after_a_retry_counts_both(server: Server, make) -> None:
    server.answers = [answered("", 503), answered("not json")]
    assert (await failure(make())).faults == {"server_error": 1, "bad_answer": 1}


async def test_a_server_that_does_not_answer_in_time_is_a_failure(server: Server, make) -> None:
    async def sleep(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return answered({"score": 1})

    server.answers = [sleep]
    assert (await failure(make(timeout_s=0.3, retries=1))).kind == "timeout"
    assert len(server.requests) == 2


async def test_a_server_that_hangs_up_is_a_failure(server: Server, make) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return answered({"score": 1})

    server.answers = [hang_up]
    assert (await failure(make(retries=1))).kind == "connection"


async def test_a_server_that_is_not_there_is_a_failure(make, unused_tcp_port: int) -> None:
    found = await failure(make(url=f"http://127.0.0.1:{unused_tcp_port}/grade?key=sk-very-secret"))
    assert found.kind == "connection"
    assert f"127.0.0.1:{unused_tcp_port}/grade" in str(found)


async def test_at_most_max_concurrency_requests_are_in_flight(server: Server, make) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return answered({"score": 1})

    server.answers = [slow]
    grader = make(max_concurrency=3)
    await asyncio.gather(*(grader.grade(SAMPLE, item={}, trace_id=str(i)) for i in range(12)))
    assert len(server.requests) == 12
    assert server.most_in_flight == 3


async def test_the_rate_limit_spaces_requests(server: Server, make) -> None:
    server.answers = [answered({"score": 1})]
    grader = make(rate_limit=50)
    started = time.monotonic()
    await asyncio.gather(*(grader.grade(SAMPLE, item={}, trace_id=str(i)) for i in range(6)))
    assert time.monotonic() - started >= 5 / 50


async def test_retry_after_is_waited_for(server: Server, make) -> None:
    server.answers = [answered("", 429, **{"Retry-After": "0.3"}), answered({"score": 1})]
    await make().grade(SAMPLE, item={}, trace_id="t")
    assert server.times[1] - server.times[0] >= 0.3


async def test_a_truth_value_is_one_or_nothing(server: Server, make) -> None:
    server.answers = [answered({"score": True, "sub_scores": {"style": False}})]
    grader = make()
    grade = await grader.grade(SAMPLE, item={}, trace_id="t")
    assert (grade.score, grade.sub_scores) == (1.0, {"style": 0.0})


async def test_a_pass_threshold_changes_no_score(server: Server, make) -> None:
    server.answers = [answered({"score": 0.2})]
    grader = make(pass_threshold=0.5)
    assert (await grader.grade(SAMPLE, item={}, trace_id="t")).score == 0.2
    assert grader.pass_threshold == 0.5


async def test_header_values_are_in_no_log_and_no_reason(server: Server, make, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [answered(SECRET, 500), answered({"score": 1, "reason": "your key is sk-very-secret"})]
    grade = await make().grade(SAMPLE, item={}, trace_id="t")
    assert grade.reason == "your key is [redacted]"
    assert "sk-very-secret" not in str(grade)
    assert "sk-very-secret" not in caplog.text
    assert "server_error" in caplog.text


def test_a_header_with_a_line_break_is_refused_without_showing_it() -> None:
    spec = EndpointGraderSpec(type="endpoint", url="http://localhost/", headers={"Authorization": "sk-secret\r\nX: y"})
    with pytest.raises(UserError, match="Authorization") as error:
        EndpointGrader(spec)
    assert "sk-secret" not in str(error.value)
