"""The tools of a job: one real call each, and as many at once as the job will make."""

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from agentrft import wire
from agentrft.data import Sample
from agentrft.errors import EndpointError
from agentrft.job.check.findings import BurstReport, CheckReport, Source, ToolReport
from agentrft.report import quantile
from agentrft.spec import HttpToolSpec, JobSpec, PythonToolSpec
from agentrft.tools import (
    HttpTool,
    Tool,
    Toolbox,
    ToolCall,
    ToolFailure,
    argument_fault,
    create_toolbox,
    example_arguments,
)
from agentrft.traffic import Fault

# What sending and reading a call takes on our side.
OWN_TIME_S = 0.002
QUEUED = 1.5
ANSWERED, REFUSED = "ok", "refused"
# Kinds of failures that other arguments would not change.
SETTINGS_WRONG = frozenset({"credential_refused", "redirect"})


async def check_tools(
    spec: JobSpec, samples: Sequence[Sample], demonstrations: Sequence[Sample], report: CheckReport, *, burst: int
) -> None:
    """Connect to every tool, and call it.

    Args:
        demonstrations: whose calls have arguments to try.
        burst: calls at once; 0 for none.
    """
    if not spec.tools:
        report.warn("tools", "the job has no tools.", "Name them under `tools`, if the agent should call any.")
        return
    for tool_spec in spec.tools:
        name = tool_spec.server_label if tool_spec.type == "mcp" else _name(tool_spec)
        part = f"MCP server '{name}'" if tool_spec.type == "mcp" else f"tool '{name}'"
        if tool_spec.replay is not None and tool_spec.on_replay_miss == "error":
            report.tools.append(ToolReport(name, note="replayed: not called"))
            report.ok(part, "answers come from a recording: not called")
            continue
        with report.part(part):
            toolbox = create_toolbox(
                [tool_spec.model_copy(update={"record": None, "replay": None, "cache": False})],
                on_rollout_start=spec.on_rollout_start,
                on_rollout_end=spec.on_rollout_end,
            )
            try:
                await toolbox.probe()
                for tool in toolbox.tools.values():
                    for unenforced in toolbox.unenforced.get(tool.name, ()):
                        report.warn(
                            f"tool '{tool.name}'",
                            f"parameters: the model sees it, and its calls may break it: {unenforced}.",
                            "Say it so that it can be checked, or let the tool check it.",
                        )
                    with report.part(f"tool '{tool.name}'"):
                        await _check(tool, toolbox, samples, demonstrations, report, burst)
            finally:
                await toolbox.close()


async def _check(
    tool: Tool,
    toolbox: Toolbox,
    samples: Sequence[Sample],
    demonstrations: Sequence[Sample],
    report: CheckReport,
    burst: int,
) -> None:
    part = f"tool '{tool.name}'"
    arguments, source = _arguments(tool, toolbox.examples, demonstrations)
    fault = argument_fault(tool.parameters, arguments)
    if fault is not None or (not tool.idempotent and source != "example"):
        why = f"no arguments could be made for it ({fault})" if fault else "every call of it does something"
        report.tools.append(ToolReport(tool.name, note=f"not called: {why}"))
        report.warn(part, f"is there, and was not called: {why}.", "Give arguments as the tool's `example`.")
        return
    call = ToolCall(f"call_{uuid.uuid4().hex[:24]}", tool.name, json.dumps(arguments, ensure_ascii=False))
    item, trace_id = samples[0].item, f"trace_{uuid.uuid4().hex}"
    try:
        for resource in toolbox.resources:
            await resource.begin(trace_id=trace_id, attempt=1, item=item)
        result = await tool.call(call, trace_id=trace_id, attempt=1, item=item)
    except ToolFailure as failure:
        report.tools.append(ToolReport(tool.name, "", call.arguments, source, "failed"))
        if source == "schema" and failure.kind not in SETTINGS_WRONG:
            report.warn(
                part,
                f"{failure}; its arguments were made from the schema: {call.arguments}.",
                "Give arguments that it takes as its `example`. A rollout that makes such a call fails: answer what is "
                "asked wrongly with 4xx, and the model reads why.",
            )
            return
        raise EndpointError(f"{failure}.", "Mend it: such a call fails its rollout.") from failure
    finally:
        await _end(toolbox, trace_id)
    shape = _shape(result.output)
    said = f"answered {shape} of {len(result.output)} characters in {_ms(result.latency_s)}"
    if result.status == "client_error":
        cause = f"refused the call with {call.arguments}: {result.output[:200]}"
        remedy = "Give arguments that it takes as the tool's `example`."
        if source == "example":
            report.error(part, cause, "Correct the `example`, or the tool.", EndpointError.exit_code)
        else:
            report.warn(part, cause, remedy)
    elif result.status == "too_large":
        report.warn(part, f"answered more than 1 MB to {call.arguments}.", "Let the tool answer less.")
    elif not result.output.strip():
        report.warn(part, f"answered nothing to {call.arguments}.", "Let it say what the model should read.")
    else:
        report.ok(part, said)
    burst_report = None
    if burst > 1 and result.status == "ok":
        burst_report = await _checked_burst(tool, toolbox, call, item, result.latency_s, burst, report)
    report.tools.append(
        ToolReport(
            tool.name,
            "",
            call.arguments,
            source,
            result.status,
            result.latency_s,
            shape,
            len(result.output),
            burst_report,
        )
    )


async def _checked_burst(
    tool: Tool,
    toolbox: Toolbox,
    call: ToolCall,
    item: dict[str, Any],
    usual_s: float,
    burst: int,
    report: CheckReport,
) -> BurstReport | None:
    part = f"tool '{tool.name}'"
    if isinstance(tool, HttpTool) and tool.spec.rate_limit is not None:
        report.ok(part, f"has rate_limit={tool.spec.rate_limit:g}: no burst was tried")
        return None
    if not tool.idempotent:
        report.ok(part, "every call of it does something: no burst was tried")
        return None
    most = min(burst, tool.spec.max_concurrency) if isinstance(tool, HttpTool) else burst
    found = await _burst(tool, toolbox, call, item, most, usual_s)
    said = (
        f"{found.calls} calls at once: p50 {_ms(found.p50_s)}, p95 {_ms(found.p95_s)}, p99 {_ms(found.p99_s)}; "
        f"{found.refused} refused, {found.failed} failed; it works on about {found.concurrency} at once"
    )
    if found.failed:
        report.warn(
            part,
            f"{said}.",
            f"Set max_concurrency: {max(1, found.calls // 2)} or less, or mend it: calls that fail "
            "are repeated, and cost rollouts in the end.",
        )
    elif found.refused:
        report.warn(
            part,
            f"{said}.",
            f"Nothing must be done: the job finds its limit. max_concurrency: "
            f"{found.concurrency} would spare it the search.",
        )
    else:
        report.ok(part, said)
    return found


async def _burst(
    tool: Tool, toolbox: Toolbox, call: ToolCall, item: dict[str, Any], calls: int, usual_s: float
) -> BurstReport:
    trace_ids = [f"trace_{uuid.uuid4().hex}" for _ in range(calls)]

    async def one(trace_id: str) -> tuple[str, float]:
        this = ToolCall(f"call_{uuid.uuid4().hex[:24]}", call.name, call.arguments)
        started = time.perf_counter()
        kind = await _ended(tool, this, trace_id, item)
        return kind, time.perf_counter() - started

    try:
        begun = await asyncio.gather(*(_begin(toolbox, trace_id, item) for trace_id in trace_ids))
        results = await asyncio.gather(*(one(t) for t, has_begun in zip(trace_ids, begun, strict=True) if has_begun))
    finally:
        await asyncio.gather(*(_end(toolbox, trace_id) for trace_id in trace_ids))
    refused = sum(kind == REFUSED for kind, _ in results)
    answered = [latency for kind, latency in results if kind == ANSWERED]
    seconds = max((latency for _, latency in results), default=0.0)
    return BurstReport(
        calls,
        refused,
        calls - refused - len(answered),
        quantile(answered, 0.5),
        quantile(answered, 0.95),
        quantile(answered, 0.99),
        seconds,
        max(1, len(answered)) if refused else _concurrency(len(answered), seconds, usual_s),
    )


async def _ended(tool: Tool, call: ToolCall, trace_id: str, item: dict[str, Any]) -> str:
    """`ANSWERED`, `REFUSED`, or the kind of the failure. HTTP tools are called past the limits of the job's."""
    if isinstance(tool, HttpTool):
        answer = await tool.call_once(call, trace_id=trace_id, item=item)
        if isinstance(answer, Fault):
            return REFUSED if answer.overloaded else answer.kind
        return ANSWERED
    try:
        await tool.call(call, trace_id=trace_id, attempt=1, item=item)
    except ToolFailure as failure:
        return failure.kind
    return ANSWERED


def _concurrency(answered: int, seconds: float, usual_s: float) -> int:
    """Calls worked on at once, by Little's law: those answered a second, times what one takes alone."""
    own_s = OWN_TIME_S * answered
    if seconds <= QUEUED * (usual_s + own_s):
        return answered
    return max(1, min(answered, round(answered * usual_s / max(seconds - own_s, usual_s))))


async def _begin(toolbox: Toolbox, trace_id: str, item: dict[str, Any]) -> bool:
    """Begin what lives with a rollout: a session, or what the user's hooks make. Whether all of it could be."""
    try:
        for resource in toolbox.resources:
            await resource.begin(trace_id=trace_id, attempt=1, item=item)
    except ToolFailure:
        return False
    return True


async def _end(toolbox: Toolbox, trace_id: str) -> None:
    for resource in reversed(toolbox.resources):
        await resource.end(trace_id=trace_id, attempt=1, outcome="check")


def _name(spec: HttpToolSpec | PythonToolSpec) -> str:
    return spec.name if spec.type == "http" else spec.tool_name


def _arguments(
    tool: Tool, examples: Mapping[str, dict[str, Any]], demonstrations: Sequence[Sample]
) -> tuple[dict[str, Any], Source]:
    """The best arguments that there are: the user's example, a demonstration's, or made from the schema."""
    if tool.name in examples:
        return examples[tool.name], "example"
    for sample in demonstrations:
        for message in sample.messages:
            for call in message.get("tool_calls") or []:
                found = _demonstrated(call["function"], tool)
                if found is not None:
                    return found, "demonstration"
    return example_arguments(tool.parameters), "schema"


def _demonstrated(function: dict[str, Any], tool: Tool) -> dict[str, Any] | None:
    if function["name"] != tool.name:
        return None
    value = wire.parse(function["arguments"])
    return value if argument_fault(tool.parameters, value) is None else None


def _shape(output: str) -> str:
    try:
        wire.parse_leniently(output)
    except wire.WireError:
        return "text"
    return "json"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
