"""From requests about evals to what is stored: every field, grader, tool and host is looked at before anything is."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agentrft import wire
from agentrft.server.context import Context
from agentrft.server.creation.judges import own_judge
from agentrft.server.creation.request import check_metadata, readable_file, shown_method
from agentrft.server.creation.safety import check_safety
from agentrft.server.errors import ApiError
from agentrft.server.evals.fields import (
    CustomConfig,
    EvalCreate,
    FileContent,
    FileSource,
    JsonlSource,
    OurOptions,
    RunCreate,
    read,
)
from agentrft.server.evals.plan import RunPlan
from agentrft.server.evals.sampling import job_spec, sampled_by
from agentrft.server.models.lookup import has_model
from agentrft.spec import GraderSpec, expand_variables
from agentrft.spec.field_errors import describe_errors
from agentrft.spec.json_schema import SchemaFault, read_schema

GRADERS: TypeAdapter[Any] = TypeAdapter(GraderSpec)
NOT_KEPT = "this server keeps no chats and responses of others to choose from; give the rows as a file or inline"
OFFERED_SOURCES = "Offered are 'jsonl', 'completions' and 'responses'."


@dataclass(frozen=True)
class NewEval:
    """A checked request.

    Attributes:
        shown: what the API shows of it, without secrets.
        sealed: what its runs need, to be encrypted.
    """

    name: str
    metadata: dict[str, str]
    graders: list[Any]
    shown: dict[str, Any]
    sealed: str


@dataclass(frozen=True)
class NewRun:
    """A checked request; as `NewEval`.

    Attributes:
        content: the rows as lines of JSON, where they came with it; else they are the file's.
    """

    name: str
    metadata: dict[str, str]
    model: str
    shown: dict[str, Any]
    sealed: str
    content: str | None
    file_id: str | None


def read_eval(body: Any, context: Context) -> NewEval:
    """Raises ApiError, with the field at fault."""
    given = read(EvalCreate, body)
    metadata = check_metadata(given.metadata)
    config = _config(given.data_source_config)
    graders = [_grader(one, f"testing_criteria.{place}", context) for place, one in enumerate(given.testing_criteria)]
    ours = read(OurOptions, given.agentrft, "agentrft")
    # Whether its runs could use them.
    job_spec(ours, graders[0], context.settings)
    sealed = {"graders": [one.model_dump(mode="json") for one in graders], "agentrft": given.agentrft}
    sealed |= {"item_schema": config.item_schema}
    shown = {
        "graders": [shown_method(one.model_dump(mode="json")) for one in graders],
        "data_source_config": {"type": "custom", "schema": _row_schema(config)},
        "agentrft": shown_method(given.agentrft),
    }
    return NewEval(given.name, metadata, graders, shown, wire.dump(sealed))


def read_run(body: Any, sealed_eval: Mapping[str, Any], context: Context) -> NewRun:
    """A run of an eval.

    Args:
        sealed_eval: as `NewEval.sealed`, opened.

    Raises:
        ApiError: with the field at fault.
    """
    given = read(RunCreate, body)
    metadata = check_metadata(given.metadata)
    graders = [GRADERS.validate_python(one) for one in sealed_eval["graders"]]
    source = given.data_source
    content, file_id = _rows(_checked_kind(source), context)
    plan = RunPlan(graders=graders, item_schema=sealed_eval["item_schema"])
    model, options = "", {**sealed_eval["agentrft"], **given.agentrft}
    if source["type"] == "jsonl":
        read(JsonlSource, source, "data_source")
        if given.agentrft:
            message = "agentrft: says how a model answers; rows of type 'jsonl' are graded as they are."
            raise ApiError(400, message, param="agentrft", code="invalid_value")
    else:
        by = sampled_by(source, graders[0], read(OurOptions, options, "agentrft"), context)
        plan = plan.model_copy(update={"sampled_by": by})
        model = by.model
    shown = {"data_source": _without_rows(source), "agentrft": shown_method(given.agentrft)}
    name = given.name or (f"{model} on {file_id or 'rows'}" if model else f"{file_id or 'rows'}")
    return NewRun(name, metadata, model, shown, plan.model_dump_json(by_alias=True), content, file_id)


def _config(given: Mapping[str, Any]) -> CustomConfig:
    kind = given.get("type")
    if kind in ("logs", "stored_completions"):
        message = f"data_source_config.type: '{kind}' is not offered: {NOT_KEPT}, with the type 'custom'."
        raise ApiError(400, message, param="data_source_config.type", code="unsupported")
    config = read(CustomConfig, given, "data_source_config")
    try:
        read_schema(config.item_schema)
    except SchemaFault as fault:
        where = "data_source_config.item_schema"
        raise ApiError(400, f"{where}: {fault}", param=where, code="invalid_value") from fault
    return config


def _row_schema(config: CustomConfig) -> dict[str, Any]:
    properties = {"item": config.item_schema}
    if config.include_sample_schema:
        properties["sample"] = {"type": "object"}
    return {"type": "object", "properties": properties, "required": ["item"]}


def _grader(given: dict[str, Any], where: str, context: Context) -> Any:
    """`${NAME}` in its headers is only replaced where a run uses it."""
    settings = context.settings
    try:
        expand_variables({"grader": given}, where, allowed=settings.allowed_env)
        spec = GRADERS.validate_python(given)
    except ValidationError as error:
        raise ApiError(
            400, f"{where}: {describe_errors(error, GraderSpec)}", param=where, code="invalid_grader"
        ) from error
    parts = spec.graders.values() if spec.type == "multi" else [spec]
    if any(getattr(one, "source_file", None) is not None for one in parts):
        raise ApiError(400, f"{where}: give the code as `source`.", param=where, code="invalid_grader")
    spec = own_judge(spec, partial(has_model, context=context))
    check_safety({"grader": spec.model_dump(mode="json")}, settings)
    return spec


def _checked_kind(source: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = source.get("type")
    if kind not in ("jsonl", "completions", "responses"):
        message = f"data_source.type: there is no such type here. {OFFERED_SOURCES}"
        raise ApiError(400, message, param="data_source.type", code="unsupported")
    return source


def _rows(data_source: Mapping[str, Any], context: Context) -> tuple[str | None, str | None]:
    """The rows as lines of JSON, or the id of their file."""
    source, where = data_source.get("source"), "data_source.source"
    kind = source.get("type") if isinstance(source, dict) else None
    if kind in ("stored_completions", "responses", "logs"):
        raise ApiError(400, f"{where}.type: '{kind}' is not offered: {NOT_KEPT}.", param=where, code="unsupported")
    if kind == "file_content":
        rows = read(FileContent, source, where).content
        return "".join(wire.dump(row.model_dump(exclude_none=True)) + "\n" for row in rows), None
    file = read(FileSource, source, where)
    return None, readable_file(file.id, f"{where}.id", context.records).file_id


def _without_rows(source: Mapping[str, Any]) -> dict[str, Any]:
    inner = source["source"]
    if inner["type"] != "file_content":
        return dict(source)
    return {**source, "source": {"type": "file_content", "content": []}}
