"""A job's data and graders, looked at as the job will: what is at fault is named, by a code and by its field."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.data import Sample, load_demonstrations, load_samples
from agentrft.errors import UserError
from agentrft.graders import check_templates, create_grader
from agentrft.spec import GraderSpec, JobSpec

# A row's id is its line, and a digest.
ROW = re.compile(r"\brow (\d+)-[0-9a-f]{8}\b")
STORED = re.compile(r"\[(invalid_\w+|worker_died)(?: (.+?))?\]: (.*)", re.DOTALL)
IN_METHOD = "method.reinforcement"


@dataclass(frozen=True)
class Problem:
    """Why a job cannot run.

    Attributes:
        code: `invalid_training_file`, `invalid_validation_file`, `invalid_warm_start_file` or `invalid_grader`.
        param: the field of the request at fault.
        message: with the file's id and the lines.
    """

    code: str
    param: str | None
    message: str

    @property
    def stored(self) -> str:
        """As the job's `error`; `stored_problem` reads it."""
        return f"[{self.code}{f' {self.param}' if self.param else ''}]: {self.message}"


def stored_problem(error: str) -> Problem:
    """What a job failed of. Other parts of the program store a message alone, or with a code and no field."""
    found = STORED.fullmatch(error)
    return Problem("job_failed", None, error) if found is None else Problem(found[1], found[2], found[3])


def problem_of(spec: JobSpec) -> Problem | None:
    """The first fault of a job's files and graders. Files are named as they are on disk, by their ids."""
    files: dict[str, Sequence[Sample]] = {}
    for field, path, load in _files(spec):
        try:
            samples = load(path)
        except UserError as error:
            return _problem(f"invalid_{field}", _param(field), path, error)
        if field != "warm_start_file":
            files[field] = samples
    for param, grader in _graders(spec):
        try:
            create_grader(grader)
        except UserError as error:
            return Problem("invalid_grader", param, f"{error.cause} {error.remedy}")
        problem = _template_problem(spec, grader, param, files)
        if problem is not None:
            return problem
    return None


def _files(spec: JobSpec) -> Iterator[tuple[str, Path, Any]]:
    yield "training_file", spec.training_file, load_samples
    if spec.validation_file is not None:
        yield "validation_file", spec.validation_file, load_samples
    if spec.warm_start is not None:
        yield "warm_start_file", spec.warm_start.training_file, load_demonstrations


def _graders(spec: JobSpec) -> Iterator[tuple[str, GraderSpec]]:
    yield f"{IN_METHOD}.grader", spec.grader
    for name, grader in spec.holdout_graders.items():
        yield f"{IN_METHOD}.holdout_graders.{name}", grader


def _template_problem(
    spec: JobSpec, grader: GraderSpec, param: str, files: Mapping[str, Sequence[Sample]]
) -> Problem | None:
    """Rows that lack what a grader asks for are at fault where others have it; where none has it, the grader is."""
    for field, samples in files.items():
        try:
            check_templates(grader, samples)
        except UserError as error:
            path = getattr(spec, field)
            if any(_fits(grader, sample) for some in files.values() for sample in some):
                return _problem(f"invalid_{field}", field, path, error, before=f"{path}: ")
            return _problem("invalid_grader", param, path, error, before=f"{path}: ")
    return None


def _fits(grader: GraderSpec, sample: Sample) -> bool:
    try:
        check_templates(grader, [sample])
    except UserError:
        return False
    return True


def _param(field: str) -> str:
    return "warm_start.training_file" if field == "warm_start_file" else field


def _problem(code: str, param: str, path: Path, error: UserError, *, before: str = "") -> Problem:
    text = f"{before}{error.cause} {error.remedy}".replace(str(path), path.name)
    return Problem(code, param, ROW.sub(lambda row: f"line {int(row[1])}", text))
