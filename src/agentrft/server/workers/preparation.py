"""Prepares a job on this machine before a worker runs it.

The job may have been created, and may have run, with another data folder or on another machine: its paths are replaced,
and its files fetched from the artifact store.
"""

from pathlib import Path
from typing import TypeVar

from agentrft.errors import UserError
from agentrft.server.settings import Settings
from agentrft.spec import AnyJobSpec, BaseJobSpec, JobSpec, TuningSpec
from agentrft.store import Artifacts, JobStore, SharedArtifacts
from agentrft.store.layout import (
    TRAIN,
    VALIDATION,
    WARM_ROLLOUTS,
    WARM_START,
    checkpoints_folder,
    newest_checkpoint,
    rollouts_file,
    step_folder,
    warm_start_folder,
)

J = TypeVar("J", bound=JobSpec | TuningSpec)


def localize_paths(spec: J, settings: Settings) -> J:
    """The spec with all paths in this server's data folder; those in the record may be of another machine or folder."""
    changes: dict[str, object] = {"output_dir": settings.jobs_dir}
    if spec.start_from is not None:
        # <job>/checkpoints/<step>
        changes["start_from"] = settings.jobs_dir.joinpath(*spec.start_from.parts[-3:])
    files = {name: settings.files_dir / path.name for name, path in spec.data_files.items()}
    return spec.with_data_files(files, **changes)


def fetch_data_files(spec: BaseJobSpec, artifacts: Artifacts) -> None:
    """Fetch the job's data files. A file that the artifact store lacks is skipped: reading it later reports it."""
    for path in spec.data_files.values():
        artifacts.fetch(path)


def fetch_job_state(spec: AnyJobSpec, store: JobStore, job_id: str) -> None:
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
    warm_checkpoint = newest_checkpoint(store.warm_checkpoints(job_id), warmed)
    rounds = [row["step"] for row in committed if row["phase"] == WARM_ROLLOUTS]
    checkpoints = store.checkpoints(job_id)
    needed = _needed(spec, folder, trained, newest_checkpoint(checkpoints, last), warm_checkpoint, 0 in checkpoints)
    if not trained and step_folder(folder, 0).name not in kept:
        needed += [rollouts_file(folder, WARM_ROLLOUTS, step) for step in rounds]
    # The result is chosen by the rollouts of all validations.
    if isinstance(spec, JobSpec):
        needed += [rollouts_file(folder, VALIDATION, row["step"]) for row in committed if row["phase"] == VALIDATION]
    for path in needed:
        if not artifacts.fetch(path):
            raise UserError(
                f"{path.relative_to(store.output_dir)} is not in the artifact store.", "Restore it, or start a new job."
            )


def _needed(
    spec: AnyJobSpec, folder: Path, trained: list[int], newest: int, warm_checkpoint: int, has_step_0: bool
) -> list[Path]:
    """What a job goes on from.

    Args:
        trained: the steps that are recorded.
        newest: of these, that of the newest checkpoint.
        warm_checkpoint: the batch of the warm start's newest checkpoint; 0 where there is none.
    """
    last = max(trained, default=0)
    if last == 0:
        if has_step_0:
            return [step_folder(folder, 0)]
        if warm_checkpoint:
            return [warm_start_folder(folder, warm_checkpoint)]
        return [] if spec.start_from is None else [spec.start_from]
    needed = [step_folder(folder, 0), step_folder(folder, newest)]
    if not isinstance(spec, JobSpec):
        return needed
    # The updates since the newest checkpoint are made again from their rollouts; alarms read the last ones.
    replayed = [step for step in trained if step > newest]
    read = trained if spec.hyperparameters.reads_earlier_steps else replayed or [last]
    return [*needed, *(rollouts_file(folder, TRAIN, step) for step in read)]


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
