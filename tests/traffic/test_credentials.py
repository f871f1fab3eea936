"""A credential that is refused in mid-job: never the model's to read. Calls wait, and an event says why."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agentrft.graders import GraderFailure, GraderSample
from agentrft.graders.endpoint import EndpointGrader
from agentrft.spec.graders import EndpointGraderSpec
from agentrft.tools import ToolCall, ToolFailure
from agentrft.traffic import waiting
from tests.traffic.chaos_server import Behaviour, ChaosServer, json_body, ok, status
from tests.traffic.test_breaker import Listener, assert_only_real_calls, call_many, call_one, tool_at

SAMPLE = GraderSample("an answer")


@pytest.fixture(autouse=True)
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(waiting, "FIRST_INTERVAL_S", 0.05)
    monkeypatch.setattr(waiting, "MAX_INTERVAL_S", 0.2)
    yield


class Guarded(ChaosServer):
    """Refuses everything while its token is expired."""

    def __init__(self, code: int, *, answer: Behaviour | None = None) -> None:
        super().__init__(default=answer or ok())
        self.refusal = status(code, "token expired")
        self.expired = False
        self.has_refused = False

    def _behaviour(self, key: str) -> Behaviour:
        self.has_refused |= self.expired
        return self.refusal if self.expired else self.default

    async def expire(self, for_s: float = 0.5) -> None:
        """For so long from the first call on that is refused."""
        self.expired = True
        while not self.has_refused:
            await asyncio.sleep(0.01)
        await asyncio.sleep(for_s)
        self.expired = False


@pytest.mark.parametrize("code", [401, 403, 407])
@pytest.mark.parametrize("fields", [{}, {"idempotent": False}, {"retries": 1}])
async def test_calls_wait_while_a_credential_is_refused_and_none_is_lost(code: int, fields: dict[str, Any]) -> None:
    listener = Listener()
    async with Guarded(code) as server:
        tool = tool_at(server.url, listener, **fields)
        await call_one(tool, 0, "before")
        _, results = await asyncio.gather(server.expire(), call_many(tool, 30))
        await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 30
    assert [level for level, _ in listener.heard] == ["warning", "info"]
    assert "refuses its credential" in listener.heard[0][1]
    assert "takes its credential again" in listener.heard[1][1]
    assert set(server.executed.values()) == {1}
    assert_only_real_calls(server)


async def test_one_call_after_another_waits_too() -> None:
    async with Guarded(401) as server:
        tool = tool_at(server.url, Listener(), retries=1)
        await call_one(tool, 0, "before")
        _, (result,) = await asyncio.gather(server.expire(), call_many(tool, 1))
        await tool.close()
    assert getattr(result, "status", result) == "ok"


async def test_a_credential_that_stays_refused_fails_its_calls_at_the_deadline_of_an_outage() -> None:
    listener = Listener()
    async with Guarded(401) as server:
        tool = tool_at(server.url, listener, outage_deadline_s=0.4)
        await call_one(tool, 0, "before")
        server.expired = True
        results = await call_many(tool, 10)
        await tool.close()
    assert {getattr(result, "kind", result) for result in results} == {"credential_refused"}
    assert all(isinstance(result, ToolFailure) and result.repeatable for result in results)
    assert "its credential was refused for" in str(results[0])
    assert "HTTP 401: token expired" in str(results[0])
    assert [level for level, _ in listener.heard] == ["warning"]


async def test_calls_that_are_refused_while_others_are_answered_fail_after_their_retries_and_hold_up_none() -> None:
    class Forbidding(ChaosServer):
        """Refuses one of the calls, whenever it is asked for it."""

        def _behaviour(self, key: str) -> Behaviour:
            return status(403, "not for you") if key.endswith("call_0") else ok(delay_s=0.002)

    async with Forbidding() as server:
        tool = tool_at(server.url, Listener())
        batches = [await call_many(tool, 20) for _ in range(5)]
        await tool.close()
    for failure, *answered in batches:
        assert isinstance(failure, ToolFailure)
        assert failure.kind == "credential_refused"
        assert failure.attempts <= 5
        assert {getattr(one, "status", one) for one in answered} == {"ok"}


async def test_an_error_of_another_kind_is_the_models_to_read_as_before() -> None:
    for code in (400, 402, 404, 409, 418, 422):
        async with ChaosServer(script=[status(code, "bad")]) as server:
            tool = tool_at(server.url, Listener())
            (result,) = await call_many(tool, 1)
            await tool.close()
        assert getattr(result, "output", result) == "bad"


def endpoint_grader(url: str, listener: Listener, **fields: Any) -> EndpointGrader:
    spec = EndpointGraderSpec.model_validate({"type": "endpoint", "url": url, **fields})
    return EndpointGrader(spec, backoff_s=0.01, notify=listener)


@pytest.mark.parametrize("code", [401, 403, 407])
async def test_an_endpoint_grader_whose_token_expires_is_waited_for(code: int) -> None:
    listener = Listener()
    async with Guarded(code, answer=json_body({"score": 0.5})) as server:
        grader = endpoint_grader(server.url, listener)
        assert (await grader.grade(SAMPLE, item={}, trace_id="t")).score == 0.5
        _, grade = await asyncio.gather(server.expire(), grader.grade(SAMPLE, item={}, trace_id="t"))
        await grader.close()
    assert grade.score == 0.5
    assert set(grade.faults) == {"credential_refused"}
    assert [level for level, _ in listener.heard] == ["warning", "info"]


async def test_a_credential_that_was_never_taken_fails_at_once() -> None:
    listener = Listener()
    async with Guarded(401) as server:
        server.expired = True
        grader, tool = endpoint_grader(server.url, listener), tool_at(server.url, listener)
        with pytest.raises(GraderFailure) as graded:
            await grader.grade(SAMPLE, item={}, trace_id="t")
        with pytest.raises(ToolFailure) as called:
            await call_one(tool, 1)
        await grader.close()
        await tool.close()
    assert (graded.value.kind, called.value.kind) == ("credential_refused", "credential_refused")
    assert (len(server.received), listener.heard) == (2, [])


class Forbidding(ChaosServer):
    """Answers for all documents but one kind."""

    def __init__(self, code: int = 403) -> None:
        super().__init__()
        self.code = code

    def _behaviour(self, key: str) -> Behaviour:
        return status(self.code, "not for you") if key.startswith("secret") else ok()


async def test_a_403_for_one_document_holds_up_nobody_and_says_nothing_of_the_credential() -> None:
    listener = Listener()
    async with Forbidding() as server:
        tool = tool_at(server.url, listener)
        await call_many(tool, 1)
        call = ToolCall("call_1", "search", '{"document": 7}')
        forbidden = await asyncio.gather(
            *(tool.call(call, trace_id=f"secret_{n}", attempt=1, item={}) for n in range(8)), return_exceptions=True
        )
        (after,) = await call_many(tool, 1)
        await tool.close()
    for failure in forbidden:
        assert isinstance(failure, ToolFailure) and failure.kind == "credential_refused"
        assert failure.attempts <= 5, "each spends its retries, and waits for no credential"
    assert getattr(after, "status", after) == "ok"
    assert listener.heard == []


@pytest.mark.parametrize("code", [401, 403])
async def test_refusals_that_are_about_single_calls_do_not_hold_up_others(code: int) -> None:
    listener = Listener()
    async with Forbidding(code) as server:
        tool = tool_at(server.url, listener)
        await call_many(tool, 1)
        forbidden = [asyncio.create_task(call_one(tool, n, "secret")) for n in range(12)]
        number = 0
        while not all(call.done() for call in forbidden):
            assert (await asyncio.wait_for(call_one(tool, number), 20)).status == "ok"
            number += 1
            await asyncio.sleep(0.01)
        await tool.close()
    for call in forbidden:
        failure = call.exception()
        assert isinstance(failure, ToolFailure) and failure.kind == "credential_refused" and failure.attempts <= 6
    # So many refusals may be the credential's, and are told as such where no other call was answered between them.
    levels = [level for level, _ in listener.heard]
    assert levels == ["warning", "info"] * (len(levels) // 2)
