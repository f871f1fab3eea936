"""Rollouts as spans, as a collector gets them."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from agentrft.graders.endpoint import EndpointGrader
from agentrft.spec import EndpointGraderSpec
from agentrft.tracing import Tracing, open_tracing, outgoing_headers, span, tracing, with_attributes
from tests.job.scripted import CALL, SAMPLE, Write, roll_out
from tests.tracing.collector import Collector, collecting
from tests.traffic.chaos_server import ChaosServer, json_body, ok, status

VARIABLES = ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SERVICE_NAME")
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
MODEL = {"gen_ai.request.model": "tiny", "agentrft.job_id": "ftjob-1"}
HEADER = "a-key-for-the-collector"


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for name in (*VARIABLES, CAPTURE):
        monkeypatch.delenv(name, raising=False)
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-api-key={HEADER}")
        yield collector


def opened() -> Tracing:
    made = open_tracing()
    assert made is not None
    return made


async def test_a_rollout_is_a_trace_of_its_own_id_that_servers_join(write: Write, collector: Collector) -> None:
    tracer = opened()
    async with ChaosServer(default=ok("a fruit")) as tool, ChaosServer(default=json_body({"score": 0.75})) as server:
        spec = EndpointGraderSpec.model_validate(
            {"type": "endpoint", "name": "mine", "url": server.url, "headers": {"X-Key": "grader-secret"}}
        )
        grader = EndpointGrader(spec)
        with tracing(tracer, MODEL), with_attributes({"agentrft.phase": "train"}):
            rollout, _ = await roll_out(write, [CALL, "red"], tool, grader=grader, headers={"X-Key": "tool-secret"})
        await grader.close()
        assert tracer.close(deadline_s=60) == 0
        (called,), (graded,) = tool.received, server.received
    root, chats = collector.named("invoke_agent")[0], collector.named("chat")
    (call,), (grade,) = collector.named("execute_tool lookup"), collector.named("grade mine")
    assert len(collector.spans) == 5 and len(chats) == 2
    # All of it is one trace, of the rollout's id.
    assert {f"trace_{one.trace_id}" for one in collector.spans} == {rollout.trace_id}
    assert root.parent_id == "" and {one.parent_id for one in (*chats, call, grade)} == {root.span_id}
    # Behind it are flags: it is sampled, and its id is random.
    assert called.headers["traceparent"].startswith(f"00-{call.trace_id}-{call.span_id}-")
    assert graded.headers["traceparent"].startswith(f"00-{grade.trace_id}-{grade.span_id}-")
    for one in collector.spans:
        assert one.attributes.items() >= {**MODEL, "agentrft.phase": "train"}.items()
        assert one.attributes["agentrft.trace_id"] == rollout.trace_id and not one.is_error
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert (root.attributes["agentrft.reward"], root.attributes["agentrft.outcome"]) == (0.75, "graded")
    sampled = [len(turn.sampled_ids) for turn in rollout.turns]
    assert sorted(one.attributes["gen_ai.usage.output_tokens"] for one in chats) == sorted(sampled)
    prompted = [len(rollout.turns[0].prompt_ids)]
    prompted.append(prompted[0] + sampled[0] + len(rollout.turns[1].prompt_ids))
    assert sorted(one.attributes["gen_ai.usage.input_tokens"] for one in chats) == prompted
    assert root.attributes["gen_ai.usage.input_tokens"] == sum(prompted)
    assert chats[0].attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert call.attributes["gen_ai.tool.name"] == "lookup" and call.attributes["agentrft.tool.status"] == "ok"
    assert grade.attributes["gen_ai.evaluation.score.value"] == 0.75
    assert collector.resource["service.name"] == "agentrft"
    assert collector.headers[0]["x-api-key"] == HEADER
    # Nothing of what was written, and no header's value.
    for text in (b"a fruit", b"apple", b"secret", HEADER.encode()):
        assert not any(text in body for body in collector.bodies)


async def test_contents_are_shown_where_they_are_asked_for(
    write: Write, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE, "true")
    tracer = opened()
    async with ChaosServer(default=ok("a fruit")) as server:
        with tracing(tracer, MODEL):
            await roll_out(write, [CALL, "red"], server)
    tracer.close(deadline_s=60)
    (call,) = collector.named("execute_tool lookup")
    assert call.attributes["gen_ai.tool.call.result"] == "a fruit"
    assert json.loads(call.attributes["gen_ai.tool.call.arguments"]) == {"word": "apple"}
    said = [json.loads(one.attributes["gen_ai.output.messages"]) for one in collector.named("chat")]
    assert [{"role": "assistant", "parts": [{"type": "text", "content": "red"}]}] in said


async def test_a_broken_tool_is_an_error_by_its_kind(write: Write, collector: Collector) -> None:
    tracer = opened()
    async with ChaosServer(default=status(500)) as server:
        with tracing(tracer, MODEL):
            rollout, _ = await roll_out(write, [CALL] * 2, server)
    tracer.close(deadline_s=60)
    calls = collector.named("execute_tool lookup")
    assert [one.attributes["error.type"] for one in calls] == ["server_error"] * 2
    assert sorted(one.attributes["agentrft.attempt"] for one in calls) == [1, 2]
    (root,) = collector.named("invoke_agent")
    assert root.is_error and root.attributes["error.type"] == rollout.failure_kind == "tool:server_error"


async def test_each_of_many_rollouts_at_once_has_its_own_trace(write: Write, collector: Collector) -> None:
    tracer = opened()
    async with ChaosServer(default=ok("a fruit")) as server:
        with tracing(tracer, MODEL):
            made = await asyncio.gather(*(roll_out(write, [CALL, "red"], server) for _ in range(8)))
    assert tracer.close(deadline_s=60) == 0
    for rollout, _ in made:
        own = [one for one in collector.spans if f"trace_{one.trace_id}" == rollout.trace_id]
        assert sorted(one.name for one in own) == ["chat", "chat", "execute_tool lookup", "grade word", "invoke_agent"]


async def test_without_an_endpoint_there_are_no_spans_and_no_headers(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert open_tracing() is None
    async with ChaosServer() as server:
        await roll_out(write, [CALL, "red"], server, sample=SAMPLE)
        assert "traceparent" not in server.received[0].headers
    assert outgoing_headers() == {}


def test_a_collector_that_refuses_is_not_waited_for_and_what_it_lacks_is_counted(collector: Collector) -> None:
    collector.status = 503
    tracer = opened()
    with tracing(tracer, MODEL):
        for _ in range(3):
            with span("update", {"agentrft.step": 1}):
                pass
    assert tracer.close(deadline_s=0.2) == 3
