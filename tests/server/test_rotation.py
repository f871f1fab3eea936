"""The key of stored secrets is changed by nobody while it is used, and a kill at any moment loses nothing."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from cryptography.fernet import Fernet

from agentrft.errors import UserError
from agentrft.server.encryption.rotation import hold_key, rotate, use_key
from agentrft.server.encryption.sealing import FILE_NAME, VARIABLE, Sealer, write_key
from agentrft.server.records import Records
from agentrft.store import JobStore
from tests.job.tiny_job import serving
from tests.server.live import MODEL, Live, live, method, open_store, upload, wait_for, workers
from tests.store.databases import database_of
from tests.traffic.chaos_server import ChaosServer, ok

# Rotates again and again in processes of its own, the first killed at its first step, the next at its second, and so
# on: steps are what it does to files and to the database. After each a server's start finds the key.
KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from agentrft.server.records import Records
from agentrft.server.encryption.rotation import rotate, use_key
from agentrft.server.encryption.sealing import Sealer
from agentrft.store import JobStore

data_dir, database = Path(sys.argv[1]), sys.argv[2] or None
current, pending = data_dir / "secret.key", data_dir / "secret.key.new"


def rotate_until(point):
    done = 0

    def step(*_):
        nonlocal done
        done += 1
        if done == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name, arguments):
        if name in ("open", "os.rename", "os.remove") and "secret.key" in str(arguments[0]):
            step()

    with JobStore(data_dir / "jobs", database=database) as store:
        event.listen(Engine, "before_cursor_execute", step)
        event.listen(Engine, "commit", step)
        sys.addaudithook(audit)
        rotate(data_dir, Records(store))
    os._exit(0)


point, status, outcomes = 0, -1, []
while status != 0:
    point += 1
    before = current.read_text()
    child = os.fork()
    if child == 0:
        rotate_until(point)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    was_pending = pending.exists()
    with JobStore(data_dir / "jobs", database=database) as store:
        records = Records(store)
        key, lock = use_key(data_dir, records)
        assert [Sealer(key).open(text) for text in records.lists.sealed_specs().values()] == ["secret"] * 3
        lock.close()
    assert not pending.exists()
    if was_pending:
        outcomes.append("undone" if current.read_text() == before else "finished")
print(point, *sorted(set(outcomes)))
"""


def sealed_jobs(records: Records, key: str, count: int = 3) -> None:
    for _ in range(count):
        records.create_job({}, {}, Sealer(key).seal("secret"), model="m", seed=0, digest="", idempotency_key=None)


def test_a_rotation_that_is_killed_at_any_step_is_finished_or_undone_by_the_next_start(tmp_path: Path) -> None:
    with JobStore(tmp_path / "jobs", database=database_of(tmp_path)) as store:
        key, lock = use_key(tmp_path, Records(store))
        sealed_jobs(Records(store), key)
        lock.close()
    given = [str(tmp_path), database_of(tmp_path) or ""]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, *given], stdout=subprocess.PIPE, text=True, check=True
    )
    points, *outcomes = done.stdout.split()
    assert int(points) > 10 and outcomes == ["finished", "undone"]


def test_what_an_older_server_sealed_after_a_cut_off_rotation_is_kept(tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    write_key(tmp_path / FILE_NAME, old)
    write_key(tmp_path / f"{FILE_NAME}.new", new)
    with JobStore(tmp_path / "jobs", database=database_of(tmp_path)) as store:
        records = Records(store)
        sealed_jobs(records, new)
        sealed_jobs(records, old)
        key, lock = use_key(tmp_path, records)
        assert key == new
        assert [Sealer(new).open(text) for text in records.lists.sealed_specs().values()] == ["secret"] * 6
        lock.close()


def test_a_rotation_that_cannot_open_everything_changes_nothing(tmp_path: Path) -> None:
    with JobStore(tmp_path / "jobs", database=database_of(tmp_path)) as store:
        records = Records(store)
        key, lock = use_key(tmp_path, records)
        lock.close()
        sealed_jobs(records, key)
        sealed_jobs(records, Fernet.generate_key().decode(), 1)
        before = records.lists.sealed_specs()
        with pytest.raises(UserError, match="another key"):
            rotate(tmp_path, records)
        assert records.lists.sealed_specs() == before
        assert [path.name for path in tmp_path.glob("secret.key*") if path.name != "secret.key.lock"] == [FILE_NAME]


def test_nobody_starts_while_the_key_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def start_meanwhile(self: Records, sealed: dict[str, str]) -> None:
        for start in (lambda: use_key(tmp_path, self), lambda: hold_key(tmp_path), lambda: rotate(tmp_path, self)):
            with pytest.raises(UserError) as refused:
                start()
            tried.append(str(refused.value))

    with JobStore(tmp_path / "jobs", database=database_of(tmp_path)) as store:
        monkeypatch.setattr(Records, "reseal", start_meanwhile)
        rotate(tmp_path, Records(store))
    assert len(tried) == 3


def test_a_key_of_the_environment_is_used_whatever_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Fernet.generate_key().decode()
    monkeypatch.setenv(VARIABLE, key)
    write_key(tmp_path / f"{FILE_NAME}.new", Fernet.generate_key().decode())
    with JobStore(tmp_path / "jobs", database=database_of(tmp_path)) as store:
        used, lock = use_key(tmp_path, Records(store))
        assert used == key
        lock.close()
        with pytest.raises(UserError, match=VARIABLE):
            rotate(tmp_path, Records(store))


def rotate_beside(server: Live) -> None:
    with open_store(server) as store:
        rotate(server.data_dir, Records(store))


@pytest.mark.slow
def test_a_server_and_what_is_left_of_a_killed_one_keep_their_key_and_their_job_goes_on_with_the_new_one(
    tmp_path: Path, tiny_model: Path
) -> None:
    with serving(ChaosServer(default=ok(delay_s=0.2))) as tools, live(tmp_path / "data", tiny_model) as server:
        with pytest.raises(UserError, match="a server uses the key"):
            rotate_beside(server)
        client = server.client()
        files = upload(client, tmp_path / "rows")
        job = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=files["train"],
            method=method(tools.url),  # type: ignore[arg-type]
        )
        wait_for(client, job.id, "running")
        [worker] = workers(server)
        worker.suspend()
        server.kill()
        with pytest.raises(UserError, match="its workers are gone seconds later"):
            rotate_beside(server)
        worker.kill()
        psutil.wait_procs([worker], timeout=10)

        key_file = server.data_dir / FILE_NAME
        before = key_file.read_text()
        rotate_beside(server)
        assert key_file.read_text() != before
        server.start()
        wait_for(server.client(), job.id, "succeeded")
