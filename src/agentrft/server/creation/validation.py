"""A job's data and graders, looked at as the job will: what is at fault is named, by a code and by its field."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentrft.data import DataError, Judge, Sample, each_demonstration, each_preference, each_sample, has_preferences
from agentrft.errors import UserError
from agentrft.graders import check_templates, check_templates_of_all, create_grader, dry_run
from agentrft.spec import AnyJobSpec, GraderSpec, JobSpec
from agentrft.tools import call_judge, declared_tools

# A row's id is its line, and a digest.
ROW = re.compile(r"\brow (\d+)-[0-9a-f]{8}\b")
STORED = re.compile(r"\[(invalid_\w+|worker_died|artifacts_unavailable|job_failed)(?: (.+?))?\]: (.*)", re.DOTALL)
CODES = {
    "training_file": "invalid_training_file",
    "validation_file": "invalid_validation_file",
    "test_file": "invalid_test_file",
    "warm_start.training_file": "invalid_warm_start_file",
    "warm_start.examples_file": "invalid_warm_start_file",
}
IN_METHOD = "method.reinforcement"


@dataclass(frozen=True)
class Problem:
    """Why a job cannot run.

    Attributes:
        code: `invalid_training_file`, `invalid_validation_file`, `invalid_test_file`, `invalid_warm_start_file`,
            `invalid_grader`, `invalid_hyperparameters`, `invalid_chat_template_kwargs` or `invalid_model`.
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


def problem_of(spec: AnyJobSpec) -> Problem | None:
    """The first fault of a job's files and graders. Files are named as they are on disk, by their ids.

    Row by row: a list of all would take several times a file's size, and Python's collector of garbage, which looks
    through it again and again, would let nobody else run meanwhile. Where all is well each file is read once.
    """
    graders = dict(_graders(spec))
    for param, grader in graders.items():
        try:
            create_grader(grader)
            asyncio.run(dry_run(grader))
        except UserError as error:
            return Problem("invalid_grader", param, f"{error.cause} {error.remedy}")
    for data in _files(spec):
        try:
            check_templates_of_all(graders.values() if data.is_graded else (), data.rows())
        except UserError as error:
            return _fault(spec, data, error)
    return None


def problem_of_file(path: Path) -> str | None:
    """Why no job could use a file for training; None if one could.

    Whether it has prompts, demonstrations or preferences is for the job to say. Its faults are those of the reading
    that finds fewer; calls are held against the rows' own tools.
    """
    judge = call_judge()
    faults: list[UserError] = []
    # Prompts first: large files have those, and are read once then.
    for read in (each_pair,) if has_preferences(path) else (each_sample, each_demonstration):
        try:
            exhaust(read(path, judge))
        except UserError as error:
            faults.append(error)
        else:
            return None
    # Where all rows are faulty both ways, what is said of demonstrations says more.
    return min(reversed(faults), key=_n_faults).cause.replace(str(path), "the file")


def _n_faults(error: UserError) -> int:
    return error.n_faults if isinstance(error, DataError) else 0


def exhaust(samples: Iterable[Sample]) -> None:
    """Read all rows and keep none; faults come as the error that the iterator raises."""
    for _ in samples:
        pass


@dataclass(frozen=True)
class _Data:
    """A file of a job: the field of the request that names it, and how its rows are read."""

    field: str
    path: Path
    read: Callable[[Path, Judge], Iterator[Sample]]
    judge: Judge
    is_graded: bool = True

    def rows(self) -> Iterator[Sample]:
        return self.read(self.path, self.judge)


def _files(spec: AnyJobSpec) -> Iterator[_Data]:
    if not isinstance(spec, JobSpec):
        # Their graders are none, so `is_graded` is of no account; rows are held against their own tools.
        read = each_pair if spec.method == "dpo" else each_demonstration
        for field, path in spec.data_files.items():
            yield _Data(field, path, read, call_judge())
        return
    judge = call_judge(declared_tools(spec.tools))
    yield _Data("training_file", spec.training_file, each_sample, judge)
    if spec.validation_file is not None:
        yield _Data("validation_file", spec.validation_file, each_sample, judge)
    if spec.test_file is not None:
        yield _Data("test_file", spec.test_file, each_sample, judge)
    for name, path in (spec.warm_start.files if spec.warm_start else {}).items():
        yield _Data(f"warm_start.{name}", path, each_demonstration, judge, is_graded=False)


def each_pair(path: Path, judge: Judge) -> Iterator[Sample]:
    """The better answers of a file of preferences, whose reading finds the faults of both."""
    return (preference.preferred for preference in each_preference(path, judge))


def _graders(spec: AnyJobSpec) -> Iterator[tuple[str, GraderSpec]]:
    if not isinstance(spec, JobSpec):
        return
    yield f"{IN_METHOD}.grader", spec.grader
    for name, grader in spec.holdout_graders.items():
        yield f"{IN_METHOD}.holdout_graders.{name}", grader


def _fault(spec: AnyJobSpec, data: _Data, error: UserError) -> Problem:
    """Whose fault it is: the file's where its rows cannot be read; where rows lack what a grader asks for, theirs if
    others have it, and the grader's if none has.
    """
    code = CODES[data.field]
    try:
        exhaust(data.rows())
    except UserError as unreadable:
        return _problem(code, data.field, data.path, unreadable)
    for param, grader in _graders(spec):
        try:
            check_templates(grader, data.rows())
        except UserError as lacking:
            readable = (file for file in _files(spec) if file.is_graded)
            if any(_fits(grader, sample) for file in readable for sample in _readable(file)):
                return _problem(code, data.field, data.path, lacking, before=f"{data.path}: ")
            return _problem("invalid_grader", param, data.path, lacking, before=f"{data.path}: ")
    return _problem(code, data.field, data.path, error)


def _readable(data: _Data) -> Iterator[Sample]:
    with suppress(UserError):
        yield from data.rows()


def _fits(grader: GraderSpec, sample: Sample) -> bool:
    try:
        check_templates(grader, [sample])
    except UserError:
        return False
    return True


def _problem(code: str, param: str, path: Path, error: UserError, *, before: str = "") -> Problem:
    text = f"{before}{error.cause} {error.remedy}".replace(str(path), path.name)
    return Problem(code, param, ROW.sub(lambda row: f"line {int(row[1])}", text))
