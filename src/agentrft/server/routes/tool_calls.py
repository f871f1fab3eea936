"""The tools of a job as its agent has them, and single calls of them."""

import asyncio
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body

from agentrft.errors import EndpointError, UserError
from agentrft.server.context import Context
from agentrft.server.creation.hosts import guarded
from agentrft.server.creation.safety import check_safety
from agentrft.server.errors import ApiError, not_found
from agentrft.server.json_bodies import WireRoute
from agentrft.server.routes.files import InContext
from agentrft.server.schemas.answers import answers
from agentrft.server.schemas.graders import JobTools, ToolRun
from agentrft.spec import JobSpec, PythonToolSpec, expand_variables
from agentrft.spec.any_job import stored_job
from agentrft.tools import Tool, Toolbox, ToolCall, ToolFailure, create_toolbox

router = APIRouter(route_class=WireRoute)

ATTEMPT = 1


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/tools", **answers(JobTools))
async def list_tools(fine_tuning_job_id: str, context: InContext) -> dict[str, Any]:
    """The tools of a job in Chat Completions shape, those of MCP servers included; Python functions run in jobs alone.

    A row's own `tools` go before these.
    """
    toolbox = await asyncio.to_thread(_toolbox, fine_tuning_job_id, context)
    await toolbox.close()
    return {"object": "list", "data": toolbox.schemas}


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/tools/{name}/run", **answers(ToolRun))
async def run_job_tool(
    fine_tuning_job_id: str, name: str, context: InContext, body: Annotated[dict[str, Any], Body()]
) -> dict[str, Any]:
    """One real call of a job's tool, with the job's own headers: `arguments`, `item`, `trace_id`, `call_id`."""
    toolbox = await asyncio.to_thread(_toolbox, fine_tuning_job_id, context)
    try:
        tool = toolbox.tools.get(name)
        if tool is None:
            known = ", ".join(toolbox.tools) or "none"
            raise not_found(f"There is no tool '{name}' to be called here: {known}.", param="name", code="not_found")
        return await tried_call(tool, body, toolbox)
    finally:
        await toolbox.close()


async def tried_call(tool: Tool, body: Mapping[str, Any], toolbox: Toolbox | None = None) -> dict[str, Any]:
    """A call as a rollout would make it, and what came back.

    Raises:
        ApiError: 424, the tool could not be called.
    """
    arguments, item = body.get("arguments", "{}"), body.get("item") or {}
    if not isinstance(item, dict):
        raise ApiError(400, "item: an object is needed.", param="item", code="invalid_value")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    trace_id = text_field(body, "trace_id") or f"trace_{uuid.uuid4().hex}"
    call = ToolCall(text_field(body, "call_id") or f"call_{uuid.uuid4().hex[:24]}", tool.name, text)
    resources = [] if toolbox is None else toolbox.resources
    try:
        for one in resources:
            await one.begin(trace_id=trace_id, attempt=ATTEMPT, item=item)
        result = await tool.call(call, trace_id=trace_id, attempt=ATTEMPT, item=item)
    except ToolFailure as failure:
        raise ApiError(424, str(failure), code=f"tool_{failure.kind}") from failure
    finally:
        for one in resources:
            await one.end(trace_id=trace_id, attempt=ATTEMPT, outcome="graded")
    return {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": result.output,
        "status": result.status,
        "trace_id": trace_id,
        "execution_time": result.latency_s,
    }


def text_field(body: Mapping[str, Any], name: str) -> str | None:
    """Raises ApiError unless it is a string, or not there."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, f"{name}: a string is needed.", param=name, code="invalid_value")
    return value


def _toolbox(job_id: str, context: Context) -> Toolbox:
    """Of a job's tools but those that would run in this process."""
    settings = context.settings
    whole = expand_variables(context.secrets_of(job_id), "job", allowed=settings.allowed_env)
    spec = stored_job(whole)
    if not isinstance(spec, JobSpec):
        return Toolbox()
    check_safety({"tools": whole["tools"]}, settings)
    with _of_tools(), guarded():
        return create_toolbox([one for one in spec.tools if not isinstance(one, PythonToolSpec)])


@contextmanager
def _of_tools() -> Iterator[None]:
    try:
        yield
    except (UserError, EndpointError) as error:
        status = 424 if isinstance(error, EndpointError) else 400
        raise ApiError(status, f"{error.cause} {error.remedy}", param="tools", code="invalid_tools") from error
