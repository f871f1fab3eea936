"""A job from YAML or from the API's shapes, with errors that name the field and what is accepted."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from agentrft.errors import UserError
from agentrft.spec.any_job import REINFORCEMENT, AnyJobSpec, with_rollouts
from agentrft.spec.field_errors import SECRET_MAPPINGS, describe_errors, unknown_field
from agentrft.spec.hyperparameters import HOSTED_ALONE, Hyperparameters
from agentrft.spec.job import JobSpec
from agentrft.spec.job_paths import with_absolute_paths
from agentrft.spec.json_schema import schema_fault
from agentrft.spec.shown import shown_value
from agentrft.spec.tuning import TuningSpec
from agentrft.spec.yaml_files import read_yaml
from agentrft.wire import is_list, is_object

METHOD_FIELDS = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tool_calls",
    "on_rollout_start",
    "on_rollout_end",
    "response_format",
    "grader",
    "holdout_graders",
    "model_failed_reward",
    "grade_unfinished",
    "chat_template_kwargs",
    "alarms",
    "max_episode_steps",
    "hyperparameters",
)
TUNING_FIELDS = ("hyperparameters", "chat_template_kwargs")
FIELDS = {REINFORCEMENT: METHOD_FIELDS, "supervised": TUNING_FIELDS, "dpo": TUNING_FIELDS}
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_job(path: Path) -> JobSpec:
    """Read the file of a job of reinforcement.

    `${NAME}` in the values of `headers` and `env` is replaced from the environment.

    Args:
        path: of the YAML file; relative paths in it are taken from its own folder.

    Raises:
        UserError: the file is missing, is no YAML, or is no valid job of that method.
    """
    return parse_job(read_job_file(path), folder=path.resolve().parent, source=str(path))


def load_any_job(path: Path) -> AnyJobSpec:
    """Read the file of a job of any method, as `load_job` does.

    Args:
        path: of the YAML file.

    Raises:
        UserError: the file is missing, is no YAML, or is no valid job.
    """
    return parse_any_job(read_job_file(path), folder=path.resolve().parent, source=str(path))


def read_job_file(path: Path) -> dict[str, Any]:
    """The job file as a mapping that is not validated yet.

    Raises:
        UserError: the file is missing or is no YAML mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such job file.", "Give the path of a job.yaml; `agentrft init DIR` writes one.")
    raw = read_yaml(path)
    if not is_object(raw):
        raise UserError(f"{path}: a job must be a mapping of fields.", "Start with `model:` and `training_file:`.")
    return raw


def parse_job(
    raw: dict[str, Any], *, folder: Path, source: str = "job", expand: bool = True, ignored: list[str] | None = None
) -> JobSpec:
    """Validate a job of reinforcement given as a mapping.

    Args:
        raw: see `parse_any_job`, as for all that follows.
        folder: where relative paths start.
        source: what to call the job in messages.
        expand: False leaves `${NAME}` as it is.
        ignored: gets the names of fields inside the method that are unknown; without it they are an error.

    Raises:
        UserError: with every faulty field at once; also for a job of another method.
    """
    return with_rollouts(parse_any_job(raw, folder=folder, source=source, expand=expand, ignored=ignored), source)


def parse_any_job(
    raw: dict[str, Any], *, folder: Path, source: str = "job", expand: bool = True, ignored: list[str] | None = None
) -> AnyJobSpec:
    """Validate a job given as a mapping, in the API's shape or the short one.

    Args:
        raw: `method={"type": "reinforcement", "reinforcement": {...}}`, or `method="rft", rft={...}`, or one of the
            types `supervised` and `dpo`.
        folder: where relative paths start.
        source: what to call the job in messages.
        expand: False leaves `${NAME}` as it is, for `expand_variables` where the job runs.
        ignored: gets the names of fields inside the method that are unknown; without it they are an error.

    Raises:
        UserError: with every faulty field at once.
    """
    kind, flat = _flatten_method(dict(raw), source, ignored)
    model = JobSpec if kind == REINFORCEMENT else TuningSpec
    place = _place_of_nul(flat)
    if place is not None:
        raise UserError(f"{source}: {place}: a NUL character, which no file name or database takes.", "Remove it.")
    if expand:
        flat = expand_variables(flat, source)
    try:
        job: AnyJobSpec = model.model_validate({**flat, "method": kind})
    except ValidationError as error:
        accepted_too: dict[type[BaseModel], Sequence[str]] = {} if ignored is None else {Hyperparameters: HOSTED_ALONE}
        cause = f"{source}: {describe_errors(error, model, accepted_too=accepted_too)}"
        raise UserError(cause, "Correct these fields; docs/job.md lists them all.") from error
    if isinstance(job, JobSpec):
        _check_schemas(job, source)
    return with_absolute_paths(job, folder, source)


def _check_schemas(job: JobSpec, source: str) -> None:
    """Not a rule of the spec itself: a job that was stored when less was known of its schema can still be read."""
    for place, tool in enumerate(job.tools):
        parameters = None if tool.type == "mcp" else tool.parameters
        fault = None if parameters is None else schema_fault(parameters)
        if fault is not None:
            where = f"method.reinforcement.tools[{place}].parameters"
            raise UserError(f"{source}: {where}: {fault}", "Give a JSON Schema of an object.")


def _place_of_nul(value: Any, place: str = "") -> str | None:
    """The first field, at any depth, whose text has one."""
    if isinstance(value, str):
        return place if "\0" in value else None
    parts: list[tuple[Any, Any]] = []
    if is_object(value):
        parts = list(value.items())
    elif is_list(value):
        parts = list(enumerate(value))
    found = (_place_of_nul(item, f"{place}.{key}" if place else str(key)) for key, item in parts)
    return next((one for one in found if one is not None), None)


def _flatten_method(raw: dict[str, Any], source: str, ignored: list[str] | None) -> tuple[str, dict[str, Any]]:
    """The method's type, and its fields beside all others."""
    method = raw.pop("method", None)
    kind = method.get("type") if is_object(method) else None
    if method == "rft":
        kind, inner, where = REINFORCEMENT, raw.pop("rft", None), "rft"
    elif is_object(method) and isinstance(kind, str) and kind in FIELDS:
        inner, where = method.get(kind), f"method.{kind}"
        _refuse_unknown(source, "method", method, ("type", kind))
        if inner is None and kind != REINFORCEMENT:
            # These have no field that must be given.
            inner = dict[str, Any]()
    else:
        raise UserError(
            f"{source}: method: expected a mapping with `type: reinforcement`, `supervised` or `dpo`, "
            f"found {shown_value(method)}.",
            "Write `method: {type: reinforcement, reinforcement: {tools, grader, hyperparameters}}`, "
            "or `method: rft` with the same fields under `rft:`.",
        )
    fields = FIELDS[kind]
    if not is_object(inner):
        raise UserError(
            f"{source}: {where}: expected a mapping, found {shown_value(inner)}.", f"Put `{fields[0]}` there."
        )
    if ignored is None:
        _refuse_unknown(source, where, inner, fields)
    else:
        ignored += [f"{where}.{key}" for key in inner if key not in fields]
    inner = {key: value for key, value in inner.items() if key in fields}
    episode_steps = inner.pop("max_episode_steps", None)
    if episode_steps is not None:
        given: Any = {} if inner.get("hyperparameters") is None else inner["hyperparameters"]
        if not is_object(given):
            raise UserError(
                f"{source}: hyperparameters: expected a mapping, found {shown_value(given)}.", "Leave it out for all."
            )
        hyperparameters = dict(given)
        if hyperparameters.setdefault("max_episode_steps", episode_steps) != episode_steps:
            raise UserError(f"{source}: max_episode_steps is given twice.", f"Keep it in `{where}` only.")
        inner["hyperparameters"] = hyperparameters
    return kind, {**raw, **{key: value for key, value in inner.items() if value is not None}}


def _refuse_unknown(source: str, where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UserError(f"{source}: {where}: {unknown_field(unknown[0], known)}", "Remove or rename the field.")


def expand_variables(raw: dict[str, Any], source: str, *, allowed: Collection[str] | None = None) -> dict[str, Any]:
    """Replace `${NAME}` inside every `headers` and `env` mapping.

    Args:
        allowed: names that may be read; None for all.

    Raises:
        UserError: the environment lacks one, or it may not be read.
    """

    def expand(value: Any, in_secrets: bool) -> Any:
        if is_object(value):
            return {key: expand(item, in_secrets or key in SECRET_MAPPINGS) for key, item in value.items()}
        if is_list(value):
            return [expand(item, in_secrets) for item in value]
        if in_secrets and isinstance(value, str):
            return VARIABLE.sub(substitute, value)
        return value

    def substitute(match: re.Match[str]) -> str:
        name = match.group(1)
        if allowed is not None and name not in allowed:
            raise UserError(
                f"{source}: headers: the variable {name} may not be read here.",
                f"Start the server with --allow-env {name}, or give the value itself: it is stored encrypted.",
            )
        if name not in os.environ:
            raise UserError(f"{source}: headers: the environment has no variable {name}.", f"Run `export {name}=...`.")
        return os.environ[name]

    return expand(raw, False)
