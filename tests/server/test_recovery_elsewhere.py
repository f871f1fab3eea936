"""A job that was killed between two checkpoints goes on on another machine: what its updates are made of is fetched."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.server.workers.preparation import fetch_job_state
from agentrft.spec import JobSpec, load_job
from agentrft.store import JobStore, ObjectStore, SharedArtifacts
from agentrft.store.database import FILE_NAME
from agentrft.store.layout import rollouts_file, step_folder
from tests.job.test_cadence import Crash, Crashing
from tests.job.tiny_job import one_thread, write_job
from tests.traffic.chaos_server import ChaosServer

STEPS, INTERVAL, CRASH_AT = 5, 2, 3


def on_machine(folder: Path, store: Path, model: Path, url: str) -> tuple[JobSpec, SharedArtifacts]:
    """The job as a machine sees it, whose data folder is `folder`."""
    hyperparameters: dict[str, Any] = {
        "max_steps": STEPS,
        "n_epochs": 2,
        "checkpoint_interval": INTERVAL,
        "eval_interval": 99,
    }
    job_file = write_job(
        folder,
        model,
        url,
        warm_start=None,
        validation_file=None,
        output_dir="jobs",
        hyperparameters=hyperparameters,
    )
    return load_job(job_file), SharedArtifacts(folder, ObjectStore(f"file://{store}", patience_s=0.0))


async def test_another_machine_makes_the_updates_again_that_no_checkpoint_has(tiny_model: Path, tmp_path: Path) -> None:
    with one_thread():
        async with ChaosServer() as server:
            spec, artifacts = on_machine(tmp_path / "one", tmp_path / "bucket", tiny_model, server.url)
            made, job_id = create_job(spec)
            made.close()
            with JobStore(spec.output_dir, artifacts=artifacts) as store, pytest.raises(Crash):
                await run_job(spec, store, job_id, progress=Crashing(CRASH_AT), stop=Stop())
            spec, artifacts = on_machine(tmp_path / "two", tmp_path / "bucket", tiny_model, server.url)
            spec.output_dir.mkdir()
            with closing(sqlite3.connect(tmp_path / "one" / "jobs" / FILE_NAME)) as theirs:
                with closing(sqlite3.connect(spec.output_dir / FILE_NAME)) as ours:
                    theirs.backup(ours)
            with JobStore(spec.output_dir, artifacts=artifacts) as store:
                fetch_job_state(spec, store, job_id)
                folder = store.job_folder(job_id)
                assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000", "step-00002"]
                fetched = [step for step in range(1, STEPS + 1) if rollouts_file(folder, "train", step).exists()]
                assert fetched == [CRASH_AT]
                await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
                told = [event.message.partition(" (")[0] for event in store.events(job_id)]
                assert "replayed the update of step 3 from stored rollouts" in told
                assert [row["step"] for row in store.metrics(job_id)] == [1, 2, 3, 4, 5]
                assert step_folder(folder, STEPS).exists()
