"""Records that an earlier version stored, with what JSON cannot carry in them, stop neither a start nor a list."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import live, until, upload
from tests.strangers.api_doors import LISTS

ODD_RECORDS = {
    "served_jobs.request": [
        '{"model": "tiny", "metadata": null, "method": {"x": Infinity}, "suffix": null}',
        "{",
        "[]",
        '{"model": "\\ud800", "suffix": "\\uDC00"}',
    ],
    "jobs.spec": [
        '{"job": {"model_failed_reward": NaN}, "files": {}}',
        '{"job": ' + "[" * 900 + "]" * 900 + "}",
        "7",
        '{"job": {"training_file": "\\udfff", "warm_start": {"training_file": "\\uD83D"}}, "files": {}}',
    ],
    "jobs.hyperparameters": ['{"learning_rate_multiplier": -Infinity}', '"\\ud83d"'],
}
GRADER = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}


@pytest.mark.slow
def test_odd_records_are_listed_and_what_was_not_looked_at_has_failed(tmp_path: Path, tiny_model: Path) -> None:
    with live(tmp_path / "data", tiny_model) as server:
        ids = upload(server.client(), tmp_path / "rows")
        body = {
            "model": "tiny",
            "training_file": ids["train"],
            "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
        }
        records = [(column, text) for column, texts in ODD_RECORDS.items() for text in texts]
        jobs = [httpx.post(f"{server.url}/fine_tuning/jobs", json=body).json()["id"] for _ in records]
        for job_id in jobs:
            httpx.post(f"{server.url}/fine_tuning/jobs/{job_id}/cancel")
        server.stop()
        with sqlite3.connect(server.data_dir / "jobs" / "agentrft.db") as database:
            for job_id, (column, text) in zip(jobs, records, strict=True):
                table, name = column.split(".")
                database.execute(f'UPDATE {table} SET "{name}" = ? WHERE job_id = ?', (text, job_id))
                database.execute("UPDATE jobs SET status = 'created' WHERE job_id = ?", (job_id,))
        server.start()
        for path in LISTS:
            answer = httpx.get(f"{server.url}{path}", timeout=60)
            assert answer.status_code == 200, (path, answer.text)
            json.loads(answer.text, parse_constant=lambda name: exit(f"{name} was sent"))

        def settled() -> dict[str, Any]:
            found = {job_id: httpx.get(f"{server.url}/fine_tuning/jobs/{job_id}").json() for job_id in jobs}
            return {} if any(job["status"] == "validating_files" for job in found.values()) else found

        shown = until(settled, "all jobs have been looked at")
        for job_id, (column, _) in zip(jobs, records, strict=True):
            if column == "jobs.spec":
                assert shown[job_id]["status"] == "failed"
                assert "could not be validated" in shown[job_id]["error"]["message"]
        deleted = httpx.delete(f"{server.url}/files/{ids['validation']}")
        assert deleted.status_code == 200, deleted.text
