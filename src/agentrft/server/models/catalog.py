"""Public names of models, and which weights they stand for.

smollm2-135m                              a base model: built in, or listed in models.yaml
ft:<base>:<org>:<suffix>:<id>             a job's best step
ft:<base>:<org>:<suffix>:<id>:ckpt-step-N another step of it
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agentrft.errors import UserError
from agentrft.models.catalog import BUILT_IN
from agentrft.spec.yaml_files import read_yaml

FINE_TUNED = "ft:"
MODELS_FILE = "models.yaml"
# Longer ones fit no database, and no job has so many steps.
STEP = re.compile(r":ckpt-step-([0-9]{1,9})\Z")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


@dataclass(frozen=True)
class Catalog:
    """The base models that a server offers: `weights` by public name, as a job's `model:` takes them."""

    weights: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.weights


def load_catalog(data_dir: Path) -> Catalog:
    """The built-in models, and those of `models.yaml`: a mapping of public names to weights.

    Raises:
        UserError: the file is none.
    """
    weights = {name: name for name in BUILT_IN}
    path = data_dir / MODELS_FILE
    if path.is_file():
        given = read_yaml(path) or {}
        faulty = not isinstance(given, dict) or not all(
            isinstance(name, str) and NAME.fullmatch(name) and isinstance(value, str) for name, value in given.items()
        )
        if faulty:
            raise UserError(f"{path}: expected a mapping of names to weights.", "Write one `name: weights` a line.")
        weights |= {name: _absolute(value, data_dir) for name, value in given.items()}
    return Catalog(weights)


def add_model(data_dir: Path, name: str, weights: str) -> Path:
    """Write a name into `models.yaml`.

    Raises:
        UserError: the name cannot be used.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' is no name for a model.", "Use letters, digits, '.', '_', '-' and '/'.")
    path = data_dir / MODELS_FILE
    given: dict[str, Any] = (read_yaml(path) or {}) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**given, name: weights}), encoding="utf-8")
    load_catalog(data_dir)
    return path


def fine_tuned_name(base: str, organization: str, suffix: str | None, job_id: str) -> str:
    """The name of a job's result; `base` may itself be such a name, which was trained further."""
    if base.startswith(FINE_TUNED):
        base = base.split(":")[1]
    return f"{FINE_TUNED}{base}:{organization}:{suffix or ''}:{job_id.removeprefix('ftjob-')}"


def split_step(name: str) -> tuple[str, int | None]:
    """A model's name without its step, and the step."""
    match = STEP.search(name)
    return (name, None) if match is None else (name[: match.start()], int(match[1]))


def _absolute(weights: str, folder: Path) -> str:
    return str((folder / Path(weights).expanduser()).resolve()) if weights.startswith((".", "/", "~")) else weights
