"""What an earlier version stored is mended where queries could not look into it, on either database."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from agentrft.store import JobStore
from agentrft.store import tables as t
from agentrft.store.mending import mend_records
from tests.store.databases import database_of

# Half of a surrogate pair, and a whole one.
HALVES = ['{"job": {"model": "\\ud800"}}', '{"job": {"model": "a\\uDfffb", "\\uD83D": 1}}']
WHOLE = '{"job": {"model": "\\ud83d\\ude00"}}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "runs", database=database_of(tmp_path)) as opened:
        yield opened


@pytest.fixture
def job_id(store: JobStore) -> str:
    return store.create_job({"model": "smollm2-135m"}, model="smollm2-135m", seed=3)


def store_as(store: JobStore, job_id: str, spec: str) -> None:
    with store.database.write() as connection:
        connection.execute(
            text("UPDATE jobs SET spec = :spec WHERE job_id = :job_id"), {"spec": spec, "job_id": job_id}
        )


def model_in(store: JobStore, job_id: str) -> Any:
    with store.database.read() as connection:
        return connection.execute(
            select(t.jobs.c.spec["job"]["model"].as_string()).where(t.jobs.c.job_id == job_id)
        ).scalar()


@pytest.mark.parametrize("spec", HALVES)
def test_half_a_surrogate_pair_is_mended(store: JobStore, job_id: str, spec: str) -> None:
    store_as(store, job_id, spec)
    assert mend_records(store.database) == 1
    assert "\ufffd" in model_in(store, job_id)
    assert mend_records(store.database) == 0


def test_what_is_sound_stays_to_the_byte(store: JobStore, job_id: str) -> None:
    store_as(store, job_id, WHOLE)
    assert mend_records(store.database) == 0
    assert model_in(store, job_id) == json.loads(WHOLE)["job"]["model"]
