"""Prepares a job on this machine before a worker runs it.

The job may have been created, and may have run, with another data folder or on another machine: its paths are replaced,
and its files fetched from the artifact store.
"""

from pathlib import Path

from agentrft.errors import UserError
from agentrft.server.settings import Settings
from agentrft.spec import JobSpec
from agentrft.store import Artifacts, JobStore, SharedArtifacts
from agentrft.store.layout import (
    TRAIN,
    VALIDATION,
    WARM_ROLLOUTS,
    WARM_START,
    checkpoints_folder,
    rollouts_file,
    step_folder,
    warm_start_folder,
)


def localize_paths(spec: JobSpec, settings: Settings) -> JobSpec:
    """The spec with all paths in this server's data folder; those in the record may be of another machine or folder."""
    changes: dict[str, object] = {
        "output_dir": settings.jobs_dir,
        "training_file": settings.files_dir / spec.training_file.name,
    }
    if spec.validation_file is not None:
        changes["validation_file"] = settings.files_dir / spec.validation_file.name
    if spec.test_file is not None:
        changes["test_file"] = settings.files_dir / spec.test_file.name
    if spec.warm_start is not None:
        files = {name: settings.files_dir / path.name for name, path in spec.warm_start.files.items()}
        changes["warm_start"] = spec.warm_start.model_copy(update=files)
    if spec.start_from is not None:
        # <job>/checkpoints/<step>
        changes["start_from"] = settings.jobs_dir.joinpath(*spec.start_from.parts[-3:])
    return spec.model_copy(update=changes)


def data_files(spec: JobSpec) -> list[Path]:
    of_warm_start = spec.warm_start.files.values() if spec.warm_start else ()
    paths = (spec.training_file, spec.validation_file, spec.test_file, *of_warm_start)
    return [path for path in paths if path is not None]


def fetch_data_files(spec: JobSpec, artifacts: Artifacts) -> None:
    """Fetch the job's data files. A file that the artifact store lacks is skipped: reading it later reports it."""
    for path in data_files(spec):
        artifacts.fetch(path)


def fetch_job_state(spec: JobSpec, store: JobStore, job_id: str) -> None:
    """Fetch what a job reads when it is resumed, and delete local files that could be mistaken for it.

    Call it while the job's lease is held.

    Raises:
        UserError: the checkpoint that the job's record names is gone.
        ArtifactsError: the store does not answer.
    """
    artifacts = store.artifacts
    fetch_data_files(spec, artifacts)
    if not isinstance(artifacts, SharedArtifacts):
        return
    folder, committed = store.job_folder(job_id), store.metrics(job_id)
    trained = [row["step"] for row in committed if row["phase"] == TRAIN]
    warmed = sum(row["phase"] == WARM_START for row in committed)
    last = max(trained, default=0)
    kept = artifacts.entries(checkpoints_folder(folder))
    for path in checkpoints_folder(folder).glob("[!.]*"):
        # Of a step that was cut off here, or that was deleted elsewhere.
        if path.name not in kept or _number(path) > (warmed if path.name.startswith("warm") else last):
            artifacts.forget(path)
    rounds = [row["step"] for row in committed if row["phase"] == WARM_ROLLOUTS]
    needed = _needed(spec, folder, trained, warmed, has_step_0=step_folder(folder, 0).name in kept)
    if not trained and step_folder(folder, 0).name not in kept:
        needed += [rollouts_file(folder, WARM_ROLLOUTS, step) for step in rounds]
    # The result is chosen by the rollouts of all validations.
    needed += [rollouts_file(folder, VALIDATION, row["step"]) for row in committed if row["phase"] == VALIDATION]
    for path in needed:
        if not artifacts.fetch(path):
            raise UserError(
                f"{path.relative_to(store.output_dir)} is not in the artifact store.", "Restore it, or start a new job."
            )


def _needed(spec: JobSpec, folder: Path, trained: list[int], warmed: int, *, has_step_0: bool) -> list[Path]:
    last = max(trained, default=0)
    if last == 0:
        if has_step_0:
            return [step_folder(folder, 0)]
        if warmed:
            return [warm_start_folder(folder, warmed)]
        return [] if spec.start_from is None else [spec.start_from]
    read = trained if spec.hyperparameters.reads_earlier_steps else [last]
    return [step_folder(folder, 0), step_folder(folder, last), *(rollouts_file(folder, TRAIN, step) for step in read)]


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
