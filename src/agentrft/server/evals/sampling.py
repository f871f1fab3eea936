"""From a data source that a model answers to the job whose validation a run could be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentrft.errors import UserError
from agentrft.server.context import Context
from agentrft.server.creation.safety import check_safety
from agentrft.server.errors import ApiError
from agentrft.server.evals.fields import (
    CompletionsSampling,
    ItemReference,
    OurOptions,
    ResponsesSampling,
    SampledSource,
    Template,
    read,
)
from agentrft.server.evals.plan import SampledBy
from agentrft.server.models.lookup import fetch_weights, find_model, template_variables
from agentrft.server.records.rows import UNKNOWN_MODEL
from agentrft.server.settings import Settings
from agentrft.spec import JobSpec, parse_job
from agentrft.spec.response_format import ResponseFormat

IN_METHOD = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tool_calls",
    "on_rollout_start",
    "on_rollout_end",
    "max_episode_steps",
    "grade_unfinished",
    "model_failed_reward",
)
OF_THE_JOB = ("dtype", "deterministic", "engine", "chat_template_kwargs")


def sampled_by(source: Mapping[str, Any], grader: Any, ours: OurOptions, context: Context) -> SampledBy:
    """How a run samples.

    Args:
        source: the request's data source, of type `completions` or `responses`.
        grader: the eval's first.

    Raises:
        ApiError: with the field at fault.
    """
    sampled = read(SampledSource, source, "data_source")
    model = find_model(sampled.model, context)
    where = "data_source.sampling_params"
    if sampled.type == "completions":
        sampling: Any = read(CompletionsSampling, sampled.sampling_params, where)
        answer_format, tools = sampling.response_format, sampling.tools
    else:
        sampling = read(ResponsesSampling, sampled.sampling_params, where)
        answer_format, tools = _chat_format(sampling.text.format), [_chat_tool(tool) for tool in sampling.tools]
    for place, tool in enumerate(tools):
        if not isinstance(tool.get("function"), dict) or tool.get("type", "function") != "function":
            message = f"{where}.tools.{place}: only functions are offered; servers for them go into `agentrft.tools`."
            raise ApiError(400, message, param=f"{where}.tools", code="unsupported")
    _check_format(answer_format, where)
    hyperparameters = {"temperature": sampling.temperature or None, "top_p": sampling.top_p}
    hyperparameters |= {"max_tokens_per_turn": sampling.max_tokens}
    spec = job_spec(
        ours,
        grader,
        context.settings,
        base=model.base,
        weights=fetch_weights(model, context, whole=True),
        dtype=None if model.job is None else context.store.get_job(model.job.job_id).setting("dtype"),
        chat_template_kwargs=template_variables(model, context),
        hyperparameters=hyperparameters,
        answer_format=answer_format,
        seed=sampling.seed,
    )
    messages = _input_messages(sampled.input_messages)
    return SampledBy(model=sampled.model, job=spec, messages=messages, tools=tools, temperature=sampling.temperature)


def _input_messages(given: dict[str, Any]) -> dict[str, Any]:
    where = "data_source.input_messages"
    kind = ItemReference if given.get("type") == "item_reference" else Template
    return read(kind, given, where).model_dump()


def _check_format(given: dict[str, Any] | None, where: str) -> None:
    try:
        if given is not None:
            ResponseFormat.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join([where, "response_format", *(str(part) for part in fault["loc"])])
        raise ApiError(400, f"{place}: {fault['msg']}.", param=where, code="invalid_value") from error


def _chat_format(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """The Responses API's flat form as Chat Completions has it."""
    if given is None or given.get("type") != "json_schema":
        return given
    return {"type": "json_schema", "json_schema": {key: value for key, value in given.items() if key != "type"}}


def _chat_tool(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("type") != "function" or "function" in given:
        return given
    return {"type": "function", "function": {k: v for k, v in given.items() if k not in ("type", "strict")}}


def job_spec(
    ours: OurOptions,
    grader: Any,
    settings: Settings,
    *,
    base: str = UNKNOWN_MODEL,
    weights: Path | None = None,
    dtype: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    answer_format: dict[str, Any] | None = None,
    seed: int = 0,
) -> JobSpec:
    """What a run does, as the job whose validation it could be.

    Args:
        base: as a job's `model`.
        weights: the checkpoint's folder; None for the base model itself.
        dtype, chat_template_kwargs: that the weights were trained with; those of `ours` go before.

    Raises:
        ApiError: with what is wrong in `agentrft`, or not allowed here.
    """
    options = ours.model_dump(exclude_none=True)
    chosen = {name: value for name, value in (hyperparameters or {}).items() if value is not None}
    if ours.max_context_tokens is not None:
        chosen["max_context_tokens"] = ours.max_context_tokens
    inner = {name: options[name] for name in IN_METHOD if name in options}
    inner |= {"grader": grader.model_dump(mode="json"), "hyperparameters": chosen}
    if answer_format is not None:
        inner["response_format"] = answer_format
    raw: dict[str, Any] = {
        "model": base,
        "seed": seed,
        "output_dir": str(settings.jobs_dir),
        # There is none: the rows are the run's own.
        "training_file": str(settings.files_dir / "rows"),
        "method": {"type": "reinforcement", "reinforcement": inner},
        **{name: options[name] for name in OF_THE_JOB if name in options},
    }
    if weights is not None:
        raw["start_from"] = str(weights)
    raw["chat_template_kwargs"] = {**(chat_template_kwargs or {}), **(ours.chat_template_kwargs or {})}
    if dtype is not None:
        raw.setdefault("dtype", dtype)
    try:
        spec = parse_job(raw, folder=settings.data_dir, source="agentrft", expand=False)
    except UserError as error:
        raise ApiError(400, f"{error.cause} {error.remedy}", param="agentrft", code="invalid_value") from error
    check_safety(spec.model_dump(mode="json"), settings)
    return spec
