"""What a habit took the place of is said on the page, in its data, in the report and by the command."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agentrft.dashboard.report_file import report_html, report_of
from agentrft.dashboard.standalone import own_pages, runs_of
from agentrft.store import JobStore
from tests.cli.commands import run_here
from tests.dashboard.stored_runs import stored_job, until_looked_through
from tests.report.why.planted import FIRST, crowding_out

LATER = "answers with a later item of the last result"
DOUBTED = f"No suspect, but the agent {FIRST} instead of what may be better in some cases."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobStore]:
    store = JobStore(tmp_path_factory.mktemp("crowding") / "runs")
    yield store
    store.close()


def crowded_job(store: JobStore, seed: int) -> str:
    """A short job that learns to copy by place, and so no longer reads."""
    run = replace(crowding_out(seed), steps=9, samples=12, rate=0.8)
    return stored_job(store, run.rolled_out(), name=f"crowded-{seed}", validation=False)


def numbers(one: dict[str, Any]) -> str:
    """Its numbers as they are told."""
    other = one["crowding"]
    assert other["name"] == LATER
    return (
        f"It took the place of “{LATER}”, {other['share'][0]:.0%} → {other['share'][1]:.0%}, which earned more in "
        f"{other['better']} of the {other['samples']} groups that have both."
    )


def test_what_was_crowded_out_is_said_wherever_suspects_are(store: JobStore) -> None:
    job_id = crowded_job(store, 0)
    runs = runs_of(store.output_dir)
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        until_looked_through(client, job_id)
        found = client.get(f"/jobs/{job_id}/why.json").json()
        page = client.get(f"/jobs/{job_id}/why").text
    runs.close()
    (suspect,) = found["suspects"]
    assert suspect["name"] == FIRST and found["unproven"] == []
    told = numbers(suspect)
    assert told in suspect["text"] and "it crowded out what was better where it fails" in suspect["text"]
    assert told in page and DOUBTED not in page
    assert told in report_html(report_of(store, store.get_job(job_id)))
    answer = run_here("report", job_id, "--output-dir", str(store.output_dir))
    assert f"Suspect: The agent {FIRST}" in answer.stdout and told in answer.stdout


def test_what_too_few_samples_tell_of_is_said_without_suspicion(store: JobStore, tmp_path: Path) -> None:
    job_id = crowded_job(store, 1)
    values = report_of(store, store.get_job(job_id))
    assert values["why"]["suspects"] == []
    (one,) = values["why"]["unproven"]
    assert one["name"] == FIRST and numbers(one) in one["doubt"]
    html = report_html(values)
    assert DOUBTED in html and numbers(one) in html
    answer = run_here("report", job_id, "--output-dir", str(store.output_dir), "--out", str(tmp_path / "report.html"))
    assert f"{DOUBTED} {numbers(one)}" in answer.stdout
