"""A copy of the data folder, made as docs/deploy.md says, is the whole server: under another path, with all it knew."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.job.tiny_job import TOOL, serving
from tests.server.live import MODEL, Live, live, method, upload, wait_for
from tests.traffic.chaos_server import ChaosServer, ok

SECRET = "Bearer of-the-tool"


@pytest.fixture(scope="module")
def tools() -> Iterator[ChaosServer]:
    with serving(ChaosServer(default=ok(delay_s=0.1))) as server:
        yield server


@pytest.mark.slow
def test_a_restored_copy_has_files_jobs_and_models_and_goes_on_with_what_ran(
    tools: ChaosServer, tiny_model: Path, tmp_path: Path
) -> None:
    with live(tmp_path / "first/data", tiny_model) as server:
        client = server.client()
        files = upload(client, tmp_path / "rows")
        tool = {**TOOL, "server_url": tools.url, "headers": {"Authorization": SECRET}}
        done = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=files["train"],
            method=method(tools.url, hyperparameters={"max_steps": 1}),
            extra_body={"baseline": {"enabled": False}},
        )
        name = wait_for(client, done.id, "succeeded").fine_tuned_model
        going = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=files["train"],
            method=method(tools.url, tools=[tool], hyperparameters={"max_steps": 2}),
            extra_body={"baseline": {"enabled": False}},
        )
        wait_for(client, going.id, "running")
        content = client.files.content(files["train"]).read()
        server.stop()
        copy_of(server, tmp_path / "backup")
    shutil.rmtree(tmp_path / "first")
    seen = len(tools.received)

    folder = tmp_path / "second/data"
    restore(tmp_path / "backup", folder, Live(folder).database)
    with live(folder, tiny_model) as restored:
        client = restored.client()
        assert client.files.content(files["train"]).read() == content
        assert wait_for(client, going.id).status == "succeeded"
        assert {job.id for job in client.fine_tuning.jobs.list()} == {done.id, going.id}
        assert name in {model.id for model in client.models.list()}
        assert client.get(f"/models/{name}/adapter", cast_to=bytes).startswith(b"PK")
    later = [request.headers for request in tools.received[seen:] if request.body]
    assert later, "the job made no call after it was restored"
    assert all({key.lower(): value for key, value in given.items()}["authorization"] == SECRET for given in later)


def copy_of(server: Live, backup: Path) -> None:
    backup.mkdir()
    archive = ["tar", "-C", str(server.data_dir.parent), "-czf", str(backup / "agentrft.tar.gz"), server.data_dir.name]
    subprocess.run(archive, check=True)
    if server.database:
        dump = ["pg_dump", "--format=custom", f"--file={backup / 'agentrft.dump'}", _for_libpq(server.database)]
        subprocess.run(dump, check=True, env=_with_postgres())


def restore(backup: Path, folder: Path, database: str | None) -> None:
    folder.parent.mkdir()
    subprocess.run(["tar", "-C", str(folder.parent), "-xzf", str(backup / "agentrft.tar.gz")], check=True)
    if database:
        # `database_of` has made it.
        command = ["pg_restore", f"--dbname={_for_libpq(database)}", str(backup / "agentrft.dump")]
        subprocess.run(command, check=True, env=_with_postgres())


def _for_libpq(database: str) -> str:
    return make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)


def _with_postgres() -> dict[str, str]:
    """The newest client programs, which Debian keeps beside the server's."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return {**os.environ, "PATH": ":".join([*map(str, folders[-1:]), os.environ["PATH"]])}
