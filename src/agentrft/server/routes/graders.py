"""`/v1/fine_tuning/alpha`: trying a grader, and a tool, before a job uses them."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import TypeAdapter, ValidationError

from agentrft.errors import UserError
from agentrft.graders.given_answer import OutputToolsError, read_output_tools
from agentrft.graders.uses import added_counts
from agentrft.server.context import Context
from agentrft.server.creation.hosts import check_host, guarded
from agentrft.server.creation.judges import own_judge
from agentrft.server.creation.request import SECRETS_FROM, shown_method, with_secrets
from agentrft.server.creation.safety import check_safety
from agentrft.server.errors import ApiError
from agentrft.server.json_bodies import WireRoute
from agentrft.server.models.lookup import has_model
from agentrft.server.objects.grader_errors import JUDGES, KINDS, error_kind
from agentrft.server.objects.stored_rollouts import stored_rollout
from agentrft.server.offload.admission import unless_gone
from agentrft.server.offload.grading import TriedGrade
from agentrft.server.routes.files import InContext
from agentrft.server.routes.tool_calls import text_field, tried_call
from agentrft.server.schemas.answers import answers
from agentrft.server.schemas.graders import GraderRun, ToolRun, ValidatedGrader
from agentrft.server.settings import Settings
from agentrft.spec import GraderSpec, HttpToolSpec, expand_variables
from agentrft.spec.field_errors import describe_errors
from agentrft.spec.shown import plain_key, shown_key
from agentrft.spec.yaml_files import parse_yaml
from agentrft.tools import HttpTool

router = APIRouter(route_class=WireRoute)

GRADERS: TypeAdapter[Any] = TypeAdapter(GraderSpec)
DETAILS = (
    "python_grader_server_error_type",
    "python_grader_runtime_error_details",
    "model_grader_server_error_details",
)
LONGEST_SAMPLE = 1024 * 1024
# What a tool gets beside its own fields, as the hosted format has it.
FUNCTION_CALL = "function_call"
OF_THE_CALL = ("id", "call_id", "arguments", "trace_id", "item")
# What a grader is given to grade where it is no stored rollout.
OF_THE_ANSWER = ("model_sample", "item", "output_tools", "trace_id")


@router.post("/v1/fine_tuning/alpha/graders/validate", **answers(ValidatedGrader))
async def validate_grader(
    request: Request, context: InContext, body: Annotated[dict[str, Any], Body()]
) -> dict[str, Any]:
    """The grader as it was given, if a job could use it."""
    spec = await asyncio.to_thread(_grader, body, context)
    with of_grader():
        await unless_gone(request, context.grading.check(spec.model_dump(mode="json")))
    return {"grader": shown_method(_as_object(body.get("grader")))}


@router.post("/v1/fine_tuning/alpha/graders/run", **answers(GraderRun))
async def run_grader(request: Request, context: InContext, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """Grade one answer: the reward, its parts, and what went wrong by kind. A grader that fails has the reward 0 here,
    and its error; in a job its rollout would have none. `output_tools` beside `model_sample` are the calls that the
    agent made before it, in Chat Completions shape. In place of all three a stored `rollout` of a job can be named.
    """
    spec = await asyncio.to_thread(_grader, body, context)
    started = time.perf_counter()
    errors: dict[str, Any] = {**dict.fromkeys(KINDS, False), **dict.fromkeys(DETAILS)}
    with of_grader():
        grade = await unless_gone(request, await _grading(spec.model_dump(mode="json"), body, context))
    errors |= _missing(grade) if grade.failure is None else _flags(spec, grade.failure)
    if grade.is_cut:
        errors["truncated_observation_error"] = True
    if grade.is_without_value:
        errors["formula_parse_error"] = True
    judges = _judges(spec)
    used = _usage_by_model(judges, grade.usage)
    total = added_counts(used.values())
    return {
        "reward": grade.score,
        "sub_rewards": grade.sub_scores,
        "model_grader_token_usage_per_model": used,
        "metadata": {
            "name": spec.name,
            "type": spec.type,
            "execution_time": time.perf_counter() - started,
            "reason": grade.reason,
            "scores": grade.sub_scores or {spec.name: grade.score},
            "sampled_model_name": next(iter(judges.values()), None),
            "token_usage": total.get("total_tokens") or None,
            "errors": errors,
        },
    }


@router.post("/v1/fine_tuning/alpha/tool/run", **answers(ToolRun))
async def run_tool(context: InContext, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """One real call of a tool, as a rollout would make it: the tool's fields, and beside them those of the call, as
    the tool itself gets them.
    """
    spec = _tool(body, context.settings)
    with guarded():
        tool = HttpTool(spec)
    try:
        return await tried_call(tool, body)
    finally:
        await tool.close()


def _tool(body: Mapping[str, Any], settings: Settings) -> HttpToolSpec:
    """Raises ApiError unless it is an HTTP tool that may be called here."""
    if body.get("type", "http") not in ("http", "function", FUNCTION_CALL):
        raise ApiError(400, "type: only HTTP tools can be tried here.", param="type", code="invalid_value")
    known = sorted({*HttpToolSpec.model_fields, "url", *OF_THE_CALL})
    unknown = [name for name in body if name not in known]
    if unknown:
        raise ApiError(
            400,
            f"Unknown field {shown_key(unknown[0])}. Accepted are: {', '.join(known)}.",
            param=plain_key(unknown[0]),
            code="unknown_parameter",
        )
    given = {"retries": 0, **{name: value for name, value in body.items() if name not in (*OF_THE_CALL, "type")}}
    try:
        spec = HttpToolSpec.model_validate(expand_variables(given, "tool", allowed=settings.allowed_env))
    except ValidationError as error:
        raise ApiError(
            400, f"tool: {describe_errors(error, HttpToolSpec)}", param="tool", code="invalid_value"
        ) from error
    if spec.record is not None or spec.replay is not None:
        name = "replay" if spec.record is None else "record"
        raise ApiError(400, f"{name}: has no meaning for a single call.", param=name, code="invalid_value")
    check_host(str(spec.server_url), settings)
    return spec


def _output_tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        calls = read_output_tools(body.get("output_tools"))
    except OutputToolsError as error:
        raise ApiError(400, str(error), param=error.field, code="invalid_value") from error
    if len(json.dumps(calls)) > LONGEST_SAMPLE:
        raise ApiError(400, "output_tools: up to 1 MB is taken.", param="output_tools", code="invalid_value")
    return calls


async def _grading(spec: dict[str, Any], body: Mapping[str, Any], context: Context) -> Awaitable[TriedGrade]:
    """What gives the grade, once what it is of was looked at."""
    given = [name for name in OF_THE_ANSWER if body.get(name) is not None]
    if body.get("rollout") is not None:
        if given:
            message = f"{given[0]}: a `rollout` has its own."
            raise ApiError(400, message, param=given[0], code="invalid_value")
        record, item = await asyncio.to_thread(stored_rollout, body["rollout"], context)
        return context.grading.grade_rollout(spec, record, item)
    text, item = body.get("model_sample"), body.get("item") or {}
    if not isinstance(text, str) or len(text) > LONGEST_SAMPLE:
        raise ApiError(
            400, "model_sample: a string of up to 1 MB is needed.", param="model_sample", code="invalid_value"
        )
    if not isinstance(item, dict):
        raise ApiError(400, "item: an object is needed.", param="item", code="invalid_value")
    calls = _output_tools(body)
    trace_id = text_field(body, "trace_id") or f"trace_{uuid.uuid4().hex}"
    return context.grading.grade(spec, text, calls, item, trace_id)


def _grader(body: Mapping[str, Any], context: Context) -> Any:
    """Raises ApiError unless it is a grader that a job here could use."""
    given = _as_object(body.get("grader"))
    if not isinstance(given, dict):
        raise ApiError(400, "grader: an object, or one as YAML, is needed.", param="grader", code="invalid_value")
    settings = context.settings
    try:
        expanded = expand_variables({"grader": given}, "grader", allowed=settings.allowed_env)
        spec = GRADERS.validate_python(expanded["grader"])
    except ValidationError as error:
        raise ApiError(
            400, f"grader: {describe_errors(error, GraderSpec)}", param="grader", code="invalid_grader"
        ) from error
    files = [one for one in (spec.graders.values() if spec.type == "multi" else [spec]) if one.type == "python"]
    if any(one.source_file is not None for one in files):
        raise ApiError(400, "grader: give the code as `source`.", param="grader", code="invalid_grader")
    spec = own_judge(spec, partial(has_model, context=context))
    dumped = {"grader": spec.model_dump(mode="json")}
    if with_secrets(dumped, body.get(SECRETS_FROM), context.secrets_of, param="grader"):
        dumped = expand_variables(dumped, "grader", allowed=settings.allowed_env)
        spec = GRADERS.validate_python(dumped["grader"])
    check_safety(dumped, settings)
    return spec


def _as_object(given: Any) -> Any:
    """What text in YAML stands for; anything else as it is."""
    if not isinstance(given, str) or len(given) > LONGEST_SAMPLE:
        return given
    with of_grader():
        return parse_yaml(given, "grader")


@contextmanager
def of_grader(field: str = "grader") -> Iterator[None]:
    """What is wrong with the grader is the field's."""
    try:
        yield
    except UserError as error:
        raise ApiError(400, f"{error.cause} {error.remedy}", param=field, code="invalid_grader") from error


def _flags(spec: Any, failure: Mapping[str, str]) -> dict[str, Any]:
    """Which of the API's flags a failure is."""
    kind, message = failure["kind"], failure["message"]
    failed = spec.graders.get(failure["grader"], spec) if spec.type == "multi" else spec
    flag = error_kind(kind, failed.type)
    if flag == "python_grader_server_error":
        return {flag: True, f"{flag}_type": kind}
    if flag == "other_error":
        return {flag: True, "unresponsive_reward_error": kind in ("timeout", "connection", "outage")}
    return {flag: True, **{detail: message for detail in DETAILS if detail == f"{flag}_details"}}


def _missing(grade: TriedGrade) -> dict[str, bool]:
    """The flags of a grade that is the lowest because the answer lacks what a template reads."""
    of_json = [reference.startswith("sample.output_json") for reference in grade.missing]
    unparsed = any(of_json) and not grade.has_json
    return {
        "sample_parse_error": unparsed,
        "invalid_variable_error": bool(of_json) and not (unparsed and all(of_json)),
    }


def _judges(spec: Any) -> dict[str, str]:
    """Models of judges, by grader."""
    several = spec.graders if spec.type == "multi" else {spec.name: spec}
    return {name: one.model for name, one in several.items() if one.type in JUDGES}


def _usage_by_model(judges: Mapping[str, str], used: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Two graders may ask the same model. A judge that failed took tokens, too."""
    found: dict[str, dict[str, int]] = {}
    for name, model in judges.items():
        if used.get(name):
            found[model] = added_counts((found.get(model, {}), used[name]))
    return found
