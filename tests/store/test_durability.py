"""Kills, second processes, and databases that are not ours: with real processes and real files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentrft.errors import UserError
from agentrft.store import JobStore

WRITER = """
import sys
from pathlib import Path
from agentrft.store import JobStore

store = JobStore(Path(sys.argv[1]))
job_id = store.create_job({}, model="m", seed=0)
store.set_status(job_id, "running")
print(job_id, flush=True)
with store.job_lock(job_id):
    step = 1
    while True:
        for number in range(5):
            key = f"{step}/{number}"
            store.add_pending_rollout(job_id, "train", step, key, {"key": key, "ids": list(range(200))})
            print(f"rollout {step} {number}", flush=True)
        store.commit_step(job_id, "train", step, {"reward": step / 10})
        print(f"commit {step}", flush=True)
        step += 1
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("lines_before_the_kill", [3, 26])
def test_kill_9_loses_nothing_that_was_reported_as_done(tmp_path: Path, lines_before_the_kill: int) -> None:
    writer = _start(WRITER, tmp_path)
    assert writer.stdout is not None
    job_id = writer.stdout.readline().strip()
    said = [writer.stdout.readline() for _ in range(lines_before_the_kill)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    assert writer.wait() == -signal.SIGKILL

    with JobStore(tmp_path, create=False) as store:
        done = [line.split() for line in said if line.endswith("\n")]
        committed = [int(words[1]) for words in done if words[0] == "commit"]
        stored = [row["step"] for row in store.metrics(job_id)]
        assert stored[: len(committed)] == committed
        assert stored == list(range(1, len(stored) + 1))
        open_step = len(stored) + 1
        reported = {f"{words[1]}/{words[2]}" for words in done if words[:2] == ["rollout", str(open_step)]}
        pending = store.pending_rollouts(job_id, "train", open_step)
        assert reported <= set(pending)
        assert all(payload == {"key": key, "ids": list(range(200))} for key, payload in pending.items())
        assert all(store.pending_rollouts(job_id, "train", step) == {} for step in stored)

        store.rewrite_metrics_file(job_id)
        assert len((store.job_folder(job_id) / "metrics.jsonl").read_text().splitlines()) == len(stored)
        with store.job_lock(job_id):
            assert store.recover(job_id)
            assert store.get_job(job_id).status == "interrupted"
            assert not store.recover(job_id)


def test_two_processes_cannot_run_the_same_job(tmp_path: Path) -> None:
    writer = _start(WRITER, tmp_path)
    assert writer.stdout is not None
    job_id = writer.stdout.readline().strip()
    writer.stdout.readline()
    try:
        with JobStore(tmp_path) as store:
            with pytest.raises(UserError, match=f"pid {writer.pid}"), store.job_lock(job_id):
                pass
            assert store.get_job(job_id).pid == writer.pid
    finally:
        writer.kill()
        writer.communicate()


def test_the_lock_is_free_again_after_use_and_holds_within_one_process_too(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store:
        job_id = store.create_job({}, model="m", seed=0)
        for _ in range(2):
            with store.job_lock(job_id):
                assert (store.job_folder(job_id) / "lock").read_text() == str(os.getpid())
                with pytest.raises(UserError), store.job_lock(job_id):
                    pass


def test_several_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agentrft.store import JobStore; "
        "sys.stdin.readline(); print(JobStore(Path(sys.argv[1])).create_job({}, model='m', seed=0))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    made = {process.communicate()[0].strip() for process in processes}
    with JobStore(tmp_path / "runs") as store:
        assert {job.job_id for job in store.list_jobs()} == made
    assert len(made) == 3


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "agentrft.db").write_text("my notes, " * 100)
    with pytest.raises(UserError, match="not a database"):
        JobStore(tmp_path)
    assert (tmp_path / "agentrft.db").read_text() == "my notes, " * 100


def test_looking_for_jobs_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no jobs here"):
        JobStore(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


def test_a_folder_of_runs_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="output_dir"):
        JobStore(tmp_path / "file" / "runs")


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store, store.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
