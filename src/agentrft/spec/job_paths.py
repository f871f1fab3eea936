"""The paths in a job: made absolute, and what must be read at them while the job is."""

import io
import tokenize
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from agentrft.errors import UserError
from agentrft.spec.integrations import IntegrationSpec
from agentrft.spec.job import JobSpec
from agentrft.spec.start import start_weights
from agentrft.spec.tuning import TuningSpec

J = TypeVar("J", bound=JobSpec | TuningSpec)
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class _Paths:
    """Makes a job's paths absolute: those from `folder` on. `source` is what to call the job in messages."""

    folder: Path
    source: str

    def absolute(self, given: Path | str, field: str, *, is_resolved: bool = False) -> Path:
        """Whether there is anything at the path is not looked at.

        Args:
            is_resolved: `~` is the home folder, and links are followed.

        Raises:
            UserError: no file can have that path, or none that this user can reach; it names the field.
        """
        try:
            path = self.folder / (Path(given).expanduser() if is_resolved else given)
            path = path.resolve() if is_resolved else path
            with suppress(FileNotFoundError, NotADirectoryError):
                path.stat()
        except (RuntimeError, ValueError, OSError) as error:
            # The error's own text may have the whole path, of thousands of characters.
            problem = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"{self.source}: {field}: no usable path: {problem}.", "Correct the path.") from error
        return path


def with_absolute_paths(job: J, folder: Path, source: str) -> J:
    """The job with relative paths taken from `folder`, and with the text of its graders' files.

    Args:
        source: what to call the job in messages.

    Raises:
        UserError: a path cannot be used, or what must be read there cannot be; it names the field.
    """
    paths = _Paths(folder, source)
    files = {name: paths.absolute(given, name) for name, given in job.data_files.items()}
    changes: dict[str, Any] = {"output_dir": paths.absolute(job.output_dir, "output_dir")}
    if isinstance(job, JobSpec):
        tools = tuple(_with_folders(tool, place, paths) for place, tool in enumerate(job.tools))
        holdouts = {name: _with_sources(grader, paths) for name, grader in job.holdout_graders.items()}
        changes |= {"tools": tools, "grader": _with_sources(job.grader, paths), "holdout_graders": holdouts}
    if job.start_from is not None:
        changes |= _with_start(job, paths.absolute(job.start_from, "start_from", is_resolved=True), source)
    changes["integrations"] = tuple(_with_place(one, place, paths) for place, one in enumerate(job.integrations))
    if job.model.startswith((".", "/", "~")):
        changes["model"] = str(paths.absolute(job.model, "model", is_resolved=True))
    return job.with_data_files(files, **changes)


def _with_place(integration: IntegrationSpec, place: int, paths: _Paths) -> IntegrationSpec:
    """An integration that is in the file system, wherever the job is resumed from."""
    where = f"integrations[{place}].{integration.type}"
    if integration.type == "tensorboard" and integration.tensorboard.folder is not None:
        folder = paths.absolute(integration.tensorboard.folder, f"{where}.folder", is_resolved=True)
        return integration.model_copy(
            update={"tensorboard": integration.tensorboard.model_copy(update={"folder": folder})}
        )
    if integration.type == "mlflow" and integration.mlflow.tracking_uri is not None:
        uri = integration.mlflow.tracking_uri
        prefix = SQLITE if uri.startswith(SQLITE) else ""
        if prefix or (":" not in uri and uri != "databricks"):
            uri = f"{prefix}{paths.absolute(uri.removeprefix(prefix), f'{where}.tracking_uri', is_resolved=True)}"
        return integration.model_copy(update={"mlflow": integration.mlflow.model_copy(update={"tracking_uri": uri})})
    return integration


def _with_start(job: JobSpec | TuningSpec, start: Path, source: str) -> dict[str, Any]:
    """The weights that training begins with decide what is trained: it is kept with the job and cannot change later."""
    weights = asdict(start_weights(start))
    if job.hyperparameters.lora_experts is True:
        # Of a model without experts it says nothing; others' weights do not fit, as is seen when they are loaded.
        del weights["lora_experts"]
    for name, own in weights.items():
        given = getattr(job.hyperparameters, name)
        if given != "auto" and own not in ("auto", given):
            raise UserError(
                f"{source}: hyperparameters.{name}: {given}, but the weights of `start_from` have {own}.",
                f"Leave {name} out.",
            )
    return {"start_from": start, "hyperparameters": job.hyperparameters.model_copy(update=weights)}


def _with_folders(tool: Any, place: int, paths: _Paths) -> Any:
    where = f"method.reinforcement.tools[{place}]"
    changes = {
        name: paths.absolute(given, f"{where}.{name}")
        for name in ("record", "replay")
        if (given := getattr(tool, name)) is not None
    }
    if tool.type != "http":
        changes["folder"] = paths.absolute(tool.folder or ".", f"{where}.folder")
    return tool.model_copy(update=changes)


def _with_sources(grader: Any, paths: _Paths) -> Any:
    """Read each python grader's `source_file` into `source`, so that the stored job is complete."""
    if grader.type == "multi":
        inner = {name: _with_sources(one, paths) for name, one in grader.graders.items()}
        return grader.model_copy(update={"graders": inner})
    if grader.type != "python" or grader.source_file is None:
        return grader
    where = f"grader '{grader.name}'"
    path = paths.absolute(grader.source_file, f"{where}: source_file")
    if not path.is_file():
        raise UserError(f"{paths.source}: {where}: {path} does not exist.", "Correct `source_file`.")
    return grader.model_copy(update={"source": _python_source(path, f"{paths.source}: {where}"), "source_file": None})


def _python_source(path: Path, source: str) -> str:
    """The text of a Python file, decoded as Python does it: UTF-8, or what its first lines declare."""
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except OSError as error:
        raise UserError(f"{source}: {path}: {error.strerror}.", "Give a file that can be read.") from error
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(
            f"{source}: {path}: not in the encoding that it declares, or in UTF-8: {error}.", "Save it as UTF-8."
        ) from error
