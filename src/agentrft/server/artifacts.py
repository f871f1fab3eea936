"""Where a server's files are kept beside its data folder, and which variables lead there."""

import os
import re
from collections.abc import Callable, Mapping

from agentrft.errors import ArtifactsError, UserError
from agentrft.server.records import Records
from agentrft.server.settings import Settings
from agentrft.store import Artifacts, JobStore, ObjectStore, SharedArtifacts
from agentrft.store.layout import TRAIN, checkpoints_folder, rollouts_file

# Whoever waits for an answer of the API does not wait long; a job can.
START_PATIENCE_S, ANSWER_PATIENCE_S, JOB_PATIENCE_S = 3.0, 10.0, 600.0
# What another server did to models is seen here after so long.
ANSWER_AGE_S = 5.0
READ_BY_DRIVERS = re.compile(r"(AWS|FSSPEC|GOOGLE|GCS|AZURE)_.*")


def driver_environment() -> dict[str, str]:
    """What drivers of object stores read, credentials included; taken before the server forgets it."""
    return {name: value for name, value in os.environ.items() if READ_BY_DRIVERS.fullmatch(name)}


def open_artifacts(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    patience_s: float,
    max_age_s: float = 0.0,
    guard: Callable[[], object] | None = None,
) -> Artifacts:
    """As the server was told. Nothing is connected yet.

    Raises:
        UserError: the URL is none, or its driver is not installed.
    """
    if settings.artifacts is None:
        return Artifacts()
    store = ObjectStore(settings.artifacts, environment=environment, patience_s=patience_s)
    return SharedArtifacts(settings.data_dir, store, max_age_s=max_age_s, guard=guard)


def first_use(settings: Settings, store: JobStore, records: Records, environment: Mapping[str, str]) -> None:
    """See that the store can be read and written; one that no server has used gets what the data folder has.

    Raises:
        UserError: it cannot.
    """
    artifacts = open_artifacts(settings, environment, patience_s=START_PATIENCE_S)
    if not isinstance(artifacts, SharedArtifacts):
        return
    try:
        if artifacts.is_new():
            artifacts.probe()
            _push_all(artifacts, settings, store, records)
        artifacts.mark()
        # Connected now, the one that answers requests never needs the credentials when workers are started beside it.
        assert isinstance(store.artifacts, SharedArtifacts)
        store.artifacts.is_new()
    except ArtifactsError as error:
        raise UserError(f"--artifacts {error.cause}", error.remedy) from error


def _push_all(artifacts: SharedArtifacts, settings: Settings, store: JobStore, records: Records) -> None:
    paths = [settings.files_dir / row.file_id for row in records.files()]
    paths += [settings.files_dir / part_id for part_id in records.pending_parts()]
    for job_id in records.lists.all():
        folder, committed = store.job_folder(job_id), store.metrics(job_id)
        paths += [rollouts_file(folder, row["phase"], row["step"]) for row in committed]
        last = max((row["step"] for row in committed if row["phase"] == TRAIN), default=0)
        # A later one is of a step that was cut off.
        paths += [
            path
            for path in checkpoints_folder(folder).glob("*-*")
            if not path.name.startswith(".") and (path.name.startswith("warm") or int(path.name[-5:]) <= last)
        ]
    for path in paths:
        if path.exists():
            artifacts.push(path)
