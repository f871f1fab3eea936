"""What nobody can use any more is deleted, bytes and rows, by a server that starts and by one that runs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from sqlalchemy import Table, select, update
from starlette.testclient import TestClient

from agentrft.server.app import create_app
from agentrft.server.background.expiry import UPLOAD_GRACE_S, clean_once
from agentrft.server.settings import Settings
from agentrft.store import JobStore, tables
from tests.job.tiny_job import TOOL, demonstration, prompt
from tests.server.live import live, open_store, until
from tests.store.databases import database_of

ROW = json.dumps({"messages": prompt("apple"), "word": "apple"}).encode() + b"\n"
EXPIRES = {"anchor": "created_at", "seconds": 3600}
LONG_AGO_S = 2 * UPLOAD_GRACE_S
LOOKUP = {**TOOL, "server_url": "http://127.0.0.1:9/lookup"}
GRADER = {"type": "string_check", "name": "right", "input": "x", "reference": "x", "operation": "eq"}


def expire(store: JobStore, table: Table, where: Any) -> None:
    """As if time had passed; the API takes no expiry of less than an hour."""
    with store.database.write() as connection:
        connection.execute(update(table).where(where).values(expires_at=time.time() - LONG_AGO_S))


def ids(store: JobStore) -> set[str]:
    """Of all files, uploads and parts that the database knows."""
    columns = (tables.files.c.file_id, tables.uploads.c.upload_id, tables.upload_parts.c.part_id)
    with store.database.read() as connection:
        return {one for column in columns for one in connection.execute(select(column)).scalars()}


def add(client: OpenAI) -> tuple[str, str, str, str]:
    """A file that expires, one that does not, and an upload with a part."""
    short = client.files.create(file=("short.jsonl", ROW), purpose="evals", expires_after=EXPIRES)  # type: ignore[arg-type]
    long = client.files.create(file=("long.jsonl", ROW), purpose="evals")
    upload = client.uploads.create(bytes=100, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    part = client.uploads.parts.create(upload.id, data=b"12")
    return short.id, long.id, upload.id, part.id


@pytest.mark.parametrize("when", ["it runs", "it starts"])
def test_a_server_deletes_expired_files_abandoned_uploads_and_what_a_kill_left(
    tmp_path: Path, tiny_model: Path, when: str
) -> None:
    with live(tmp_path / "data", tiny_model) as server:
        short, long, upload, part = add(server.client())
        other = add(server.client())
        folder = server.data_dir / "files"
        left, fresh = folder / ".partial-1", folder / ".partial-2"
        if when == "it starts":
            server.stop()
        left.write_bytes(ROW)
        fresh.write_bytes(ROW)
        os.utime(left, (time.time() - LONG_AGO_S,) * 2)
        with open_store(server) as store:
            expire(store, tables.files, tables.files.c.file_id == short)
            expire(store, tables.uploads, tables.uploads.c.upload_id == upload)
            if when == "it starts":
                server.start()
            until(lambda: not {short, upload, part} & ids(store), "the rows are gone")
            until(lambda: not left.exists(), "the partial file is gone")
            assert ids(store) == {long, *other}
        kept = {long, other[0], other[1], other[3], fresh.name}
        assert {path.name for path in folder.iterdir()} == kept
        assert server.client().files.content(long).content == ROW


def test_an_expired_file_stays_until_the_jobs_that_need_it_have_ended(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(f"tiny: {tmp_path}\n")
    # Nothing runs here: the job waits for its turn.
    app = create_app(Settings(tmp_path, database=database_of(tmp_path), max_running_jobs=0))
    context = app.state.context
    with TestClient(app, base_url="http://localhost") as client:
        files = []
        for row in (ROW, ROW, json.dumps({"messages": demonstration("apple", "red")}).encode()):
            given = {"file": ("rows.jsonl", row)}
            files.append(client.post("/v1/files", data={"purpose": "fine-tune"}, files=given).json()["id"])
        body = {
            "model": "tiny",
            "training_file": files[0],
            "validation_file": files[1],
            "warm_start": {"training_file": files[2]},
            "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER, "tools": [LOOKUP]}},
        }
        job = client.post("/v1/fine_tuning/jobs", json=body).json()
        assert client.get(f"/v1/fine_tuning/jobs/{job['id']}").json()["status"] == "queued"
        expire(context.store, tables.files, tables.files.c.file_id.in_(files))
        clean_once(context)
        assert ids(context.store) == set(files) == {path.name for path in (tmp_path / "files").iterdir()}
        client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
        clean_once(context)
        assert ids(context.store) == set() and not list((tmp_path / "files").iterdir())
