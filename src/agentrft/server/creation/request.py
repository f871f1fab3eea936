"""From the body of a create request to a job: the same spec for each of the API's shapes."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agentrft.errors import UserError
from agentrft.job.secrets import HIDDEN, HIDDEN_QUERY, SECRET_MAPPINGS, URL_FIELDS, fill_secrets, has_hidden
from agentrft.models.local_files import known_variables
from agentrft.server.creation.integrations import read_integrations
from agentrft.server.creation.judges import with_own_judges
from agentrft.server.creation.own_cluster import with_own_cluster
from agentrft.server.creation.safety import check_safety
from agentrft.server.errors import ApiError
from agentrft.server.inference.template_variables import TemplateWish, chosen_variables
from agentrft.server.models.catalog import Catalog
from agentrft.server.models.lookup import ServedModel
from agentrft.server.records import Records
from agentrft.server.records.rows import FileRow
from agentrft.server.settings import Settings
from agentrft.spec import AnyJobSpec, JobSpec, TuningSpec, parse_any_job
from agentrft.spec.any_job import REINFORCEMENT, stored_job
from agentrft.spec.hyperparameters import EFFORT, HOSTED_ALONE
from agentrft.spec.shown import plain_key, shown_key, shown_value
from agentrft.traffic import public_url

J = TypeVar("J", bound=JobSpec | TuningSpec)
OF_THE_API = (
    "model",
    "training_file",
    "validation_file",
    "suffix",
    "seed",
    "metadata",
    "integrations",
    "method",
    "rft",
)
# What Azure's clients send, about machines of theirs.
OF_AZURE = ("trainingType",)
# Ours, beside the API's: through the SDK as `extra_body`.
OURS = (
    "test_file",
    "warm_start",
    "baseline",
    "engine",
    "cluster",
    "dtype",
    "deterministic",
    "model_failed_reward",
    "grade_unfinished",
    "chat_template_kwargs",
    "priority",
)
# Of a request that was shown again, with `***` for secrets: the job whose secrets are meant.
SECRETS_FROM = "secrets_from"
HIDDEN_REMEDY = f"Give the value itself, or name the job that has it as `{SECRETS_FROM}`."
# The files that a warm start names.
OF_WARM_START = ("training_file", "examples_file")
MOST_METADATA, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
MOST_PRIORITY = 1000
# Of files in the folder of files that are not whole yet.
PARTIAL_PREFIX = ".partial-"


@dataclass(frozen=True)
class NewJob:
    """A checked request.

    Attributes:
        spec: `${NAME}` in headers is not replaced yet: that is done where the job runs.
        request: what the API shows of it again, without secrets; and as `ours` what only we take, to begin from anew.
        ignored: fields that have no effect, which are warned of; those inside the method are shown again.
    """

    spec: AnyJobSpec
    request: dict[str, Any]
    ignored: list[str]


def read_request(
    body: Any,
    records: Records,
    catalog: Catalog,
    settings: Settings,
    start: ServedModel | None = None,
    *,
    inherited: Mapping[str, Any] | None = None,
    is_here: Callable[[str], bool],
    secrets_of: Callable[[str], dict[str, Any]],
) -> NewJob:
    """Check a create request.

    Args:
        is_here: whether the server has a model of that name, for judges.
        secrets_of: the whole dumped spec of a job; raises ApiError where there is none of that id.
        start: the fine-tuned model that it names, to be trained further.
        inherited: the variables of its chat template that this was trained with; those of the request go before.

    Raises:
        ApiError: with the field at fault.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_value")
    _check_fields(body)
    model = body["model"]
    if start is None and model not in catalog:
        raise ApiError(
            404,
            f"The model '{model}' is not here. Models to train: {', '.join(sorted(catalog.weights))}. Others are "
            "given a name with `agentrft models add`.",
            param="model",
            code="model_not_found",
        )
    raw: dict[str, Any] = {key: value for key, value in body.items() if value is not None and key in OURS}
    priority = raw.pop("priority", 0)
    if "cluster" in raw:
        raw["cluster"] = with_own_cluster(raw["cluster"], settings)
    if start is None:
        raw["model"] = catalog.weights[model]
    else:
        raw |= {"model": start.base, "start_from": str(start.folder)}
    raw["output_dir"] = str(settings.jobs_dir)
    raw["training_file"] = _file_path(body["training_file"], "training_file", records, settings)
    for name in ("validation_file", "test_file"):
        if body.get(name) is not None:
            raw[name] = _file_path(body[name], name, records, settings)
    warm_start = raw.get("warm_start")
    if isinstance(warm_start, dict):
        given = [name for name in OF_WARM_START if warm_start.get(name) is not None]
        files = {name: _file_path(warm_start[name], f"warm_start.{name}", records, settings) for name in given}
        raw["warm_start"] = {**warm_start, **files}
    raw |= {name: body[name] for name in ("suffix", "seed", "metadata") if body.get(name) is not None}
    raw["integrations"] = integrations = read_integrations(body.get("integrations"), settings)
    method = _method(body)
    raw["method"] = method
    _refuse_source_files(method)
    ignored = [name for name in OF_AZURE if body.get(name) is not None]
    try:
        spec = parse_any_job(
            _without_hosted_options(raw), folder=settings.data_dir, source="job", expand=False, ignored=ignored
        )
    except UserError as error:
        raise ApiError(400, f"{error.cause} {error.remedy}", param="method", code="invalid_value") from error
    dumped = spec.model_dump(mode="json")
    if with_secrets(dumped, body.get(SECRETS_FROM), secrets_of):
        spec = stored_job(dumped)
    spec = _with_variables(spec, raw, inherited or {}, ignored)
    if isinstance(spec, JobSpec):
        spec = with_own_judges(spec, is_here)
    check_safety(spec.model_dump(mode="json"), settings)
    shown = {
        "model": model,
        "training_file": body["training_file"],
        "validation_file": body.get("validation_file"),
        "suffix": body.get("suffix"),
        "metadata": body.get("metadata"),
        "method": shown_method(method),
        "integrations": integrations,
        "priority": priority,
        "ours": {name: body[name] for name in ("seed", *OURS) if body.get(name) is not None},
    }
    return NewJob(spec, shown, ignored)


def with_secrets(
    job: dict[str, Any], source: Any, secrets_of: Callable[[str], dict[str, Any]], *, param: str = "method"
) -> bool:
    """Put into a dumped spec, or into parts of one, what it has as `***`, from a job that has it for the same part;
    whether there was any.

    Raises:
        ApiError: there is no such job, it has none of these, or none is named: what is hidden is never sent.
    """
    if source is not None and not isinstance(source, str):
        raise ApiError(400, f"{SECRETS_FROM}: the id of a job is needed.", param=SECRETS_FROM, code="invalid_value")
    if not has_hidden(job):
        return False
    if source is None:
        message = f"{param}: it has `{HIDDEN}` where a value was hidden. {HIDDEN_REMEDY}"
        raise ApiError(400, message, param=param, code="hidden_value")
    try:
        fill_secrets(job, secrets_of(source), source, HIDDEN_REMEDY)
    except UserError as error:
        raise ApiError(400, f"{error.cause} {error.remedy}", param=SECRETS_FROM, code="hidden_value") from error
    return True


def request_digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def shown_method(value: Any, *, inside: str = "") -> Any:
    """A method as it was given, with `***` for header values, and for what URLs hold of passwords and queries."""
    if isinstance(value, dict):
        if inside in SECRET_MAPPINGS:
            return dict.fromkeys(value, HIDDEN)
        return {key: shown_method(one, inside=key) for key, one in value.items()}
    if isinstance(value, list):
        return [shown_method(one) for one in value]
    if inside in URL_FIELDS and isinstance(value, str):
        try:
            shown = public_url(value)
        except ValueError:
            return HIDDEN
        return value if shown.rstrip("/") == value.rstrip("/") else shown + HIDDEN_QUERY
    return value


def _check_fields(body: dict[str, Any]) -> None:
    if body.get("hyperparameters") and (body.get("method") is not None or body.get("rft") is not None):
        raise ApiError(400, "hyperparameters: belongs into the method.", param="hyperparameters", code="invalid_value")
    known = {*OF_THE_API, *OURS, *OF_AZURE, "hyperparameters", SECRETS_FROM}
    unknown = sorted(set(body) - known)
    if unknown:
        raise ApiError(
            400,
            f"Unknown field {shown_key(unknown[0])}. Accepted are: {', '.join(sorted(known))}.",
            param=plain_key(unknown[0]),
            code="unknown_parameter",
        )
    for name in ("model", "training_file"):
        if not isinstance(body.get(name), str):
            raise ApiError(400, f"{name}: a string is needed.", param=name, code="missing_required_parameter")
    priority = body.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) > MOST_PRIORITY:
        message = f"priority: a whole number of at most {MOST_PRIORITY} is needed."
        raise ApiError(400, message, param="priority", code="invalid_value")
    check_metadata(body.get("metadata"))


def check_metadata(metadata: Any) -> dict[str, str]:
    """The metadata of a request; raises ApiError unless it is few short pairs of strings."""
    if metadata is None:
        return {}
    fits = (
        isinstance(metadata, dict)
        and len(metadata) <= MOST_METADATA
        and all(isinstance(value, str) and len(value) <= LONGEST_VALUE for value in metadata.values())
        and all(len(key) <= LONGEST_KEY for key in metadata)
    )
    if not fits:
        raise ApiError(
            400,
            f"metadata: at most {MOST_METADATA} pairs of strings, keys up to {LONGEST_KEY} and values up to "
            f"{LONGEST_VALUE} characters.",
            param="metadata",
            code="invalid_value",
        )
    return metadata


def _method(body: dict[str, Any]) -> dict[str, Any]:
    """The method in the API's shape, whichever it came in."""
    method, rft = body.get("method"), body.get("rft")
    if method == "rft" and isinstance(rft, dict):
        return {"type": "reinforcement", "reinforcement": rft}
    if method is None and rft is None:
        # As the API has it, also in the older shape that has the hyperparameters beside the method.
        return {"type": "supervised", "supervised": {"hyperparameters": body.get("hyperparameters") or {}}}
    if rft is not None or not isinstance(method, dict):
        raise ApiError(
            400,
            'method: give {"type": "reinforcement", "reinforcement": {...}}, the same of "supervised" or "dpo", or '
            '"rft" with the field `rft`.',
            param="method",
            code="invalid_value",
        )
    return method


def _without_hosted_options(raw: dict[str, Any]) -> dict[str, Any]:
    """Without what a job file does not have."""
    inner = raw["method"].get(REINFORCEMENT)
    hyperparameters = inner.get("hyperparameters") if isinstance(inner, dict) else None
    if not isinstance(hyperparameters, dict):
        return raw
    kept = {key: value for key, value in hyperparameters.items() if key not in HOSTED_ALONE}
    return {**raw, "method": {**raw["method"], "reinforcement": {**inner, "hyperparameters": kept}}}


def _with_variables(spec: J, raw: dict[str, Any], inherited: Mapping[str, Any], ignored: list[str]) -> J:
    """With the variables of the model's template that it was trained with unless the request names some, and those that
    stand for `reasoning_effort` unless it names these.
    """
    inner = raw["method"].get(spec.method) or {}
    effort = (inner.get("hyperparameters") or {}).get(EFFORT)
    asks = effort not in (None, "default")
    named = [part["chat_template_kwargs"] for part in (raw, inner) if part.get("chat_template_kwargs") is not None]
    # The spec has no nulls: by those the template's own default holds, whatever the effort.
    given = {name: spec.chat_template_kwargs.get(name) for one in named for name in one}
    wish = TemplateWish(given, str(effort) if asks else "")
    chosen = chosen_variables({} if named else inherited, wish, known_variables(spec.model) if asks else [])
    if asks and not chosen.honours_effort:
        ignored.append(f"method.reinforcement.hyperparameters.{EFFORT}")
    return spec.model_copy(update={"chat_template_kwargs": chosen.values})


def _refuse_source_files(value: Any) -> None:
    """A path would be read on the server, whatever lies there."""
    if isinstance(value, dict):
        if value.get("source_file") is not None:
            raise ApiError(400, "source_file: give the code as `source`.", param="method", code="invalid_value")
        for one in value.values():
            _refuse_source_files(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_source_files(one)


def readable_file(file_id: Any, param: str, records: Records) -> FileRow:
    """A file that was uploaded and has not expired; raises ApiError where there is none of that id."""
    row: FileRow | None = records.file(file_id) if isinstance(file_id, str) and "\0" not in file_id else None
    if row is None or (row.expires_at is not None and row.expires_at < time.time()):
        raise ApiError(400, f"{param}: there is no file {shown_value(file_id)}.", param=param, code="invalid_file")
    return row


def _file_path(file_id: Any, param: str, records: Records, settings: Settings) -> str:
    row = readable_file(file_id, param, records)
    if row.purpose != "fine-tune":
        raise ApiError(
            400,
            f"{param}: {file_id} has the purpose '{row.purpose}', not 'fine-tune'.",
            param=param,
            code="invalid_file",
        )
    if row.status == "error":
        raise ApiError(400, f"{param}: {file_id}: {row.status_details}", param=param, code="invalid_file")
    return str(content_path(settings, row.file_id))


def content_path(settings: Settings, file_id: str) -> Path:
    """Where a file's bytes are."""
    return settings.files_dir / file_id
