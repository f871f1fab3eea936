"""What every request passes, whatever becomes of it."""

import logging
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from agentrft.server.app import create_app
from agentrft.server.records import Records
from agentrft.server.settings import Settings


def breaks(*_: object) -> None:
    raise RuntimeError("nobody thought of this")


@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs/ftjob-1", "/v1/fine_tuning/jobs/ftjob-1/checkpoints"])
def test_what_nobody_foresaw_is_an_answer_that_the_log_explains(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Records, "served", breaks)
    with (
        caplog.at_level(logging.ERROR),
        TestClient(create_app(Settings(tmp_path, max_running_jobs=0)), base_url="http://localhost") as client,
    ):
        answer = client.get(path)
    assert answer.status_code == 500
    error = answer.json()["error"]
    request_id = answer.headers["x-request-id"]
    assert error == {
        "message": f"Something broke here; the log names it by {request_id}.",
        "type": "server_error",
        "param": None,
        "code": "internal",
    }
    assert answer.headers["x-should-retry"] == "false"
    (record,) = (record for record in caplog.records if record.name == "agentrft.server.guard")
    # Quoted: a path may have a line break.
    assert record.message == f"{request_id}: GET {path!r}"
    assert record.exc_info is not None and "nobody thought of this" in str(record.exc_info[1])


def test_a_key_that_cannot_be_looked_up_is_an_answer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Records, "is_valid_key", breaks)
    with TestClient(
        create_app(Settings(tmp_path, max_running_jobs=0, needs_key=True)), base_url="http://localhost"
    ) as client:
        answer = client.get("/v1/models", headers={"Authorization": "Bearer sk-agentrft-1"})
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal"


def test_answers_are_counted_by_route_and_status(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(tmp_path, max_running_jobs=0)), base_url="http://localhost") as client:
        for _ in range(3):
            assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/files/file-1").status_code == 404
        text = client.get("/metrics").text
    assert 'agentrft_http_answers_total{route="/v1/models",status="200"} 3.0' in text
    assert 'agentrft_http_answers_total{route="/v1/files/{file_id}",status="404"} 1.0' in text
