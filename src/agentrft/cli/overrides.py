"""Changing fields of a job from the command line: `--set hyperparameters.max_steps=4`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.spec import AnyJobSpec, load_any_job, parse_any_job
from agentrft.spec.loading import FIELDS, read_job_file
from agentrft.spec.yaml_files import parse_yaml
from agentrft.wire import is_object

ENTRY = re.compile("[0-9]{1,9}")
INNER_FIELDS = ("tools", "grader", "max_episode_steps", "hyperparameters")


def load_job_with(path: Path, overrides: Sequence[str]) -> AnyJobSpec:
    """Read a job file, with some of its fields replaced.

    Args:
        overrides: `path.to.field=value`, the value in YAML; list entries by number. `tools`, `grader` and
            `hyperparameters` need not name the method around them.

    Raises:
        UserError: the file is no valid job, an override is no assignment, or the changed job is not valid.
    """
    job = load_any_job(path)
    if not overrides:
        return job
    raw = read_job_file(path)
    for override in overrides:
        _apply(raw, override)
    return parse_any_job(raw, folder=path.resolve().parent, source=f"{path} with --set")


def _apply(raw: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    parts = name.strip().split(".")
    if not separator or not all(parts):
        raise UserError(
            f"--set {override}: expected path.to.field=value.", "For example --set hyperparameters.n_epochs=2."
        )
    if "headers" in parts:
        raise UserError(
            "--set cannot give headers: their values are not stored, and a resumed job reads them from its file.",
            "Write `${NAME}` in the job's file, and set the variable in the environment.",
        )
    value = parse_yaml(text, f"--set {override}")
    place: Any = raw
    if parts[0] in INNER_FIELDS and parts[0] not in raw:
        method = raw.get("method")
        place = raw.get("rft") if method == "rft" else is_object(method) and _inner(method)
        if not is_object(place):
            raise UserError(f"--set {override}: the job has no method to set this in.", "Set `method` to a whole one.")
    for part in parts[:-1]:
        place = _step_into(place, part, override)
    _step_into(place, parts[-1], override, value)


def _inner(method: dict[str, Any]) -> Any:
    """The fields of a method; those of methods that need none may be left out."""
    kind = method.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        return None
    if method.get(kind) is None:
        method[kind] = {}
    return method[kind]


def _step_into(place: Any, part: str, override: str, *new: Any) -> Any:
    """The entry `part` of a mapping or list, set to `new` where that is given, made where a mapping lacks it."""
    if isinstance(place, list):
        if not ENTRY.fullmatch(part) or int(part) >= len(place):
            raise UserError(f"--set {override}: '{part}' is no entry of a list of {len(place)}.", "Count from 0.")
        key: Any = int(part)
    elif isinstance(place, dict):
        key = part
        if place.get(key) is None:
            place[key] = {}
    else:
        raise UserError(f"--set {override}: there are no fields above '{part}'.", "docs/job.md lists all fields.")
    if new:
        place[key] = new[0]
    return place[key]
