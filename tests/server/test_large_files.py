"""Large files: what is done, and what is kept in memory, grows with the rows no faster than the rows do."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from agentrft.data import samples
from agentrft.data.samples import Sample
from agentrft.graders import registry
from agentrft.server.app import create_app
from agentrft.server.creation.validation import problem_of, problem_of_file
from agentrft.server.settings import Settings
from agentrft.spec import JobSpec
from tests.job.tiny_job import prompt

ROWS, VALIDATION_ROWS = 5000, 1000
GRADER = {
    "type": "string_check",
    "name": "right",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "operation": "eq",
}


class Work:
    """Counts what is done with rows, and how many are in memory at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = self.rendered = self.alive = self.most_alive = 0
        read_row, render = samples._read_sample, registry.render_template

        def count_sample(*args: Any, **kwargs: Any) -> tuple[Sample | None, list[str]]:
            made, faults = read_row(*args, **kwargs)
            self.read += 1
            if made is not None:
                self.alive += 1
                self.most_alive = max(self.most_alive, self.alive)
                weakref.finalize(made, self.forget)
            return made, faults

        def count_render(*args: Any, **kwargs: Any) -> str:
            self.rendered += 1
            return render(*args, **kwargs)

        monkeypatch.setattr(samples, "_read_sample", count_sample)
        monkeypatch.setattr(registry, "render_template", count_render)

    def forget(self) -> None:
        self.alive -= 1


def rows(count: int) -> bytes:
    made = ({"messages": prompt(f"word {number}"), "word": str(number)} for number in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in made)


def test_a_large_file_is_read_once_a_row_at_a_time_when_it_comes_and_once_for_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the processes do that look at data."""
    work = Work(monkeypatch)
    paths = {"training_file": ROWS, "validation_file": VALIDATION_ROWS}
    for name, count in paths.items():
        (tmp_path / name).write_bytes(rows(count))
        assert problem_of_file(tmp_path / name) is None
    assert work.read == ROWS + VALIDATION_ROWS
    files = {name: tmp_path / name for name in paths}
    assert problem_of(JobSpec.model_validate({"model": "tiny", "grader": GRADER, **files})) is None
    assert work.read == 2 * (ROWS + VALIDATION_ROWS)
    assert work.rendered == ROWS + VALIDATION_ROWS
    assert work.most_alive <= 3


def test_a_large_file_and_its_job_ask_the_database_little(tmp_path: Path) -> None:
    statements: list[None] = []

    def count(*_: Any) -> None:
        statements.append(None)

    (tmp_path / "models.yaml").write_text(f"tiny: {tmp_path}\n")
    # Nothing runs here: the job is to wait for its turn.
    with TestClient(create_app(Settings(tmp_path, max_running_jobs=0)), base_url="http://localhost") as client:
        event.listen(Engine, "before_cursor_execute", count)
        try:
            given = {"file": ("rows.jsonl", rows(ROWS))}
            file_id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=given).json()["id"]
            assert client.get(f"/v1/files/{file_id}").json()["status"] == "processed"
            body = {
                "model": "tiny",
                "training_file": file_id,
                "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
            }
            job_id = client.post("/v1/fine_tuning/jobs", json=body).json()["id"]
            job = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()
        finally:
            event.remove(Engine, "before_cursor_execute", count)
    assert job["status"] == "queued", job
    # The server's own looks at the database come on top, about five a second.
    assert len(statements) < ROWS / 10


def test_a_large_file_that_is_wrong_in_every_row_is_told_by_its_first_faults(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(tmp_path, max_running_jobs=0)), base_url="http://localhost") as client:
        given = {"file": ("rows.jsonl", b'{"messages": []}\n' * ROWS)}
        file_id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=given).json()["id"]
        details = client.get(f"/v1/files/{file_id}").json()["status_details"]
    assert f"{ROWS} fault(s)" in details and f"and {ROWS - 20} more" in details
    assert len(details) < 5000
