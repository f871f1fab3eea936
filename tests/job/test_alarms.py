"""Alarms of whole jobs: told once, with the rollouts to read; pausing where the job says so; not lost to a kill."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import JobPaused
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.spec import load_job
from agentrft.store import Event, JobStore
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer

ALWAYS_HALF = {"type": "python", "trusted": True, "name": "half", "source": "def grade(sample, item):\n    return 0.5"}
SMALL: dict[str, Any] = {"validation_file": None, "warm_start": None, "grader": ALWAYS_HALF}
FLAT = {"zero_variance_share": {"threshold": 0.5, "over_steps": 1, "action": "pause"}}


async def start(job_file: Path) -> tuple[JobStore, str]:
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    with pytest.raises(JobPaused, match="100% of the groups"):
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    return store, job_id


async def resume(store: JobStore, job_id: str) -> None:
    await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())


def alarms(store: JobStore, job_id: str) -> list[Event]:
    return [event for event in store.events(job_id) if "alarm" in event.data]


def trained(store: JobStore, job_id: str) -> list[int]:
    return [row["step"] for row in store.metrics(job_id) if row["phase"] == "train"]


async def test_an_alarm_that_pauses_ends_the_step_and_resuming_goes_on_as_the_user_decided(
    tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer() as server:
        store, job_id = await start(write_job(tmp_path, tiny_model, server.url, **SMALL, alarms=FLAT))
        with store:
            paused = store.get_job(job_id)
            assert paused.status == "paused"
            assert paused.error is not None and "zero" not in paused.error and "alarm above 50%" in paused.error
            assert trained(store, job_id) == [1]
            (told,) = alarms(store, job_id)
            assert (told.level, told.data["alarm"], told.data["step"]) == ("warning", "zero_variance_share", 1)
            await resume(store, job_id)
            assert store.get_job(job_id).status == "succeeded"
            assert trained(store, job_id) == [1, 2, 3]
            assert len(alarms(store, job_id)) == 1, "it goes on ringing, and is not told again"


async def test_an_alarm_that_a_kill_kept_from_being_told_is_told_on_resuming(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        store, job_id = await start(write_job(tmp_path, tiny_model, server.url, **SMALL, alarms=FLAT))
        with store:
            with sqlite3.connect(tmp_path / "runs" / "agentrft.db") as database:
                database.execute("DELETE FROM events")
            with pytest.raises(JobPaused):
                await resume(store, job_id)
            assert trained(store, job_id) == [1]
            assert [event.data["step"] for event in alarms(store, job_id)] == [1]


async def test_an_alarm_that_warns_names_the_rollouts_to_read(tiny_model: Path, tmp_path: Path) -> None:
    short = {"max_steps": 1, "max_tokens_per_turn": 3}
    loud = {"truncation_share": {"threshold": 0.5, "over_steps": 1}, "zero_variance_share": False}
    job = {**SMALL, "hyperparameters": short, "alarms": loud}
    async with ChaosServer() as server:
        spec = load_job(write_job(tmp_path, tiny_model, server.url, **job))
        store, job_id = create_job(spec)
        with store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            (told,) = alarms(store, job_id)
    assert told.data["alarm"] == "truncation_share" and told.data["value"] == 1.0
    assert len(told.data["trace_ids"]) == 3 and told.data["trace_ids"][0] in told.message
