"""A credential that is refused in mid-job: never the model's to read. Calls wait, and an event says why."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agentrft.graders import GraderFailure, GraderSample
from agentrft.graders.endpoint import EndpointGrader
from agentrft.spec.graders import EndpointGraderSpec
from agentrft.tools import ToolCall, ToolFailure
from agentrft.traffic import breaker as breaker_module
from tests.traffic.chaos_server import Behaviour, ChaosServer, json_body, ok, status
from tests.traffic.test_breaker import Listener, call_many, tool_at

SAMPLE = GraderSample("an answer")


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(breaker_module, "FIRST_INTERVAL_S", 0.05)
    monkeypatch.setattr(breaker_module, "MAX_INTERVAL_S", 0.2)
    yield


class Guarded(ChaosServer):
    """Refuses everything from when its token expired until it is renewed.

    Attributes:
        guards_probes: whether it looks at the token of a probe, too.
    """

    def __init__(self, code: int, *, guards_probes: bool = True, answer: Behaviour | None = None) -> None:
        super().__init__(default=answer or ok())
        self.refusal = status(code, "token expired")
        self.guards_probes = guards_probes
        self.expired = True

    def _behaviour(self, key: str) -> Behaviour:
        probe = "X-AgentRFT-Probe" in self.received[-1].headers
        refused = self.expired and (self.guards_probes or not probe)
        return self.refusal if refused else self.default

    async def renew_soon(self, after_s: float = 0.5) -> None:
        await asyncio.sleep(after_s)
        self.expired = False


# A 403 of an endpoint that takes the probe may be about what was asked for: see the last test.
@pytest.mark.parametrize(("code", "guards_probes"), [(401, True), (403, True), (407, True), (401, False), (407, False)])
@pytest.mark.parametrize("fields", [{}, {"idempotent": False}, {"retries": 1}])
async def test_calls_wait_while_a_credential_is_refused_and_none_is_lost(
    code: int, guards_probes: bool, fields: dict[str, Any]
) -> None:
    listener = Listener()
    async with Guarded(code, guards_probes=guards_probes) as server:
        tool = tool_at(server.url, listener, **fields)
        results, _ = await asyncio.gather(call_many(tool, 30), server.renew_soon())
        await tool.close()
    assert [getattr(result, "status", result) for result in results] == ["ok"] * 30
    assert [level for level, _ in listener.heard] == ["warning", "info"]
    assert "refuses its credential" in listener.heard[0][1]
    assert "takes its credential again" in listener.heard[1][1]
    assert {times for key, times in server.executed.items() if key} == {1}


async def test_one_call_after_another_waits_too() -> None:
    async with Guarded(401, guards_probes=False) as server:
        tool = tool_at(server.url, Listener(), retries=1)
        (result,), _ = await asyncio.gather(call_many(tool, 1), server.renew_soon())
        await tool.close()
    assert getattr(result, "status", result) == "ok"


async def test_a_credential_that_stays_refused_fails_its_calls_at_the_deadline_of_an_outage() -> None:
    listener = Listener()
    async with Guarded(401) as server:
        tool = tool_at(server.url, listener, outage_deadline_s=0.4)
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
        server.expired = False
        grader = endpoint_grader(server.url, listener)
        assert (await grader.grade(SAMPLE, item={}, trace_id="t")).score == 0.5
        server.expired = True
        grade, _ = await asyncio.gather(grader.grade(SAMPLE, item={}, trace_id="t"), server.renew_soon())
        await grader.close()
    assert grade.score == 0.5
    assert set(grade.faults) == {"credential_refused"}
    assert [level for level, _ in listener.heard] == ["warning", "info"]


async def test_a_grader_whose_credential_was_never_taken_fails_at_once() -> None:
    listener = Listener()
    async with Guarded(401) as server:
        grader = endpoint_grader(server.url, listener)
        with pytest.raises(GraderFailure) as failure:
            await grader.grade(SAMPLE, item={}, trace_id="t")
        await grader.close()
    assert failure.value.kind == "credential_refused"
    assert (len(server.received), listener.heard) == (1, [])


async def test_a_403_for_one_document_holds_up_nobody_and_says_nothing_of_the_credential() -> None:
    class Forbidding(ChaosServer):
        """Takes probes and answers for all documents but one."""

        def _behaviour(self, key: str) -> Behaviour:
            return status(403, "not for you") if key.startswith("secret") else ok()

    listener = Listener()
    async with Forbidding() as server:
        tool = tool_at(server.url, listener)
        await call_many(tool, 1)
        forbidden = await asyncio.gather(
            *(
                tool.call(ToolCall(f"call_{number}", "search", "{}"), trace_id="secret", attempt=1, item={})
                for number in range(8)
            ),
            return_exceptions=True,
        )
        (after,) = await call_many(tool, 1)
        await tool.close()
    for failure in forbidden:
        assert isinstance(failure, ToolFailure) and failure.kind == "credential_refused"
        assert failure.attempts <= 5, "each spends its retries, and waits for no credential"
    assert getattr(after, "status", after) == "ok"
    assert listener.heard == []
