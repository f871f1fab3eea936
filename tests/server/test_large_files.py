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
from agentrft.server.settings import Settings
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
        self.read = self.rendered = self.statements = self.alive = self.most_alive = 0
        read_row, render = samples._read_row, registry.render_template

        def count_sample(*args: Any) -> tuple[Sample | None, list[str]]:
            made, faults = read_row(*args)
            self.read += 1
            if made is not None:
                self.alive += 1
                self.most_alive = max(self.most_alive, self.alive)
                weakref.finalize(made, self.forget)
            return made, faults

        def count_render(*args: Any, **kwargs: Any) -> str:
            self.rendered += 1
            return render(*args, **kwargs)

        monkeypatch.setattr(samples, "_read_row", count_sample)
        monkeypatch.setattr(registry, "render_template", count_render)

    def forget(self) -> None:
        self.alive -= 1

    def count_statement(self, *_: Any) -> None:
        self.statements += 1


def rows(count: int) -> bytes:
    made = ({"messages": prompt(f"word {number}"), "word": str(number)} for number in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in made)


def test_a_large_file_is_read_once_a_row_at_a_time_when_it_comes_and_once_for_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch)
    (tmp_path / "models.yaml").write_text(f"tiny: {tmp_path}\n")
    # Nothing runs here: the job is to wait for its turn.
    with TestClient(create_app(Settings(tmp_path, max_running_jobs=0)), base_url="http://localhost") as client:

        def uploaded(count: int) -> str:
            given = {"file": ("rows.jsonl", rows(count))}
            file_id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=given).json()["id"]
            assert client.get(f"/v1/files/{file_id}").json()["status"] == "processed"
            return file_id

        event.listen(Engine, "before_cursor_execute", work.count_statement)
        try:
            training, validation = uploaded(ROWS), uploaded(VALIDATION_ROWS)
            assert work.read == ROWS + VALIDATION_ROWS
            body = {
                "model": "tiny",
                "training_file": training,
                "validation_file": validation,
                "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
            }
            job_id = client.post("/v1/fine_tuning/jobs", json=body).json()["id"]
            job = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()
        finally:
            event.remove(Engine, "before_cursor_execute", work.count_statement)
    assert job["status"] == "queued", job
    assert work.read == 2 * (ROWS + VALIDATION_ROWS)
    assert work.rendered == ROWS + VALIDATION_ROWS
    assert work.most_alive <= 3
    # The server's own looks at the database come on top, about five a second.
    assert work.statements < ROWS / 10


def test_a_large_file_that_is_wrong_in_every_row_is_told_by_its_first_faults(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(tmp_path, max_running_jobs=0)), base_url="http://localhost") as client:
        given = {"file": ("rows.jsonl", b'{"messages": []}\n' * ROWS)}
        file_id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=given).json()["id"]
        details = client.get(f"/v1/files/{file_id}").json()["status_details"]
    assert f"{ROWS} fault(s)" in details and f"and {ROWS - 20} more" in details
    assert len(details) < 5000
