"""Jobs whose rollouts run in actors of Ray: each is graded once, limits hold over all, a lost worker costs attempts."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrft.cluster import ray_cluster
from agentrft.errors import Interrupted, JobFailedError, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.runtime import Runtime
from agentrft.spec import load_job
from tests.cluster.ray_jobs import events, records_of, run, sender, wait_for, worker_processes
from tests.job.ended import ended
from tests.job.tiny_job import PHASES, serving, tool_calls, write_job
from tests.traffic.chaos_server import ChaosServer, hang, ok

TWO = {"rollout_workers": 2}
SHORT = {"max_steps": 1}
# Rollouts of the baseline, and of a step and its validation.
BASELINE, EACH_STEP = 4, 2 * 4 + 4


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread; what it raises is raised at the end."""
    raised: list[BaseException] = []

    def watched() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=watched)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if raised:
            raise raised[0]


def test_two_workers_grade_every_rollout_once_and_share_an_endpoints_slots(tiny_model: Path, tmp_path: Path) -> None:
    senders: dict[int, int] = {}

    def note_senders() -> None:
        # Each worker keeps its connections.
        wait_for(lambda: len(server.received) >= 20, "calls")
        for process in worker_processes(os.getpid()):
            for connection in process.net_connections("tcp"):
                senders[connection.laddr.port] = process.pid

    handler = signal.getsignal(signal.SIGTERM)
    with serving(ChaosServer(default=ok(delay_s=0.2))) as server, meanwhile(note_senders):
        job_file = write_job(tmp_path, tiny_model, server.url, cluster=TWO, tool={"max_concurrency": 2})
        job = run(job_file)
    assert server.max_in_flight == 2
    assert len({senders[one.peer_port] for one in server.received if one.peer_port in senders}) == 2
    assert [(line["phase"], line["step"]) for line in job.lines] == PHASES
    records = records_of(job)
    assert Counter(record["outcome"] for record in records).keys() <= {"graded", "model_failed"}
    assert len(records) == len({record["trace_id"] for record in records}) == BASELINE + 3 * EACH_STEP
    assert {call["headers"]["x-trace-id"] for call in tool_calls(server)} <= {record["trace_id"] for record in records}
    assert max(Counter(call["headers"]["idempotency-key"] for call in tool_calls(server)).values()) == 1
    assert not worker_processes(os.getpid())
    assert not any("rollout worker" in text for text in events(job_file))
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_rollouts_an_attempt_and_gives_its_slot_back(
    tiny_model: Path, tmp_path: Path
) -> None:
    killed: list[int] = []
    niceness: list[int] = []

    def kill_the_one_that_waits() -> None:
        wait_for(lambda: bool(server.received), "a call")
        process = sender(server.received[0].peer_port, os.getpid())
        niceness.append(process.nice())
        killed.append(process.pid)
        process.send_signal(signal.SIGKILL)

    # The one slot is held by the call that is never answered.
    with serving(ChaosServer(script=[hang()])) as server, meanwhile(kill_the_one_that_waits):
        one = {"max_concurrency": 1}
        job_file = write_job(tmp_path, tiny_model, server.url, cluster=TWO, tool=one, hyperparameters=SHORT)
        job = run(job_file)
    assert niceness == [psutil.Process().nice()], "it waits while the job's own process wants a processor"
    records = records_of(job)
    assert {record["outcome"] for record in records} <= {"graded", "model_failed"}
    assert len(records) == len({record["trace_id"] for record in records}) == BASELINE + EACH_STEP
    lost = {record["trace_id"]: record for record in records if "worker:lost" in record["given_up"]}
    first = server.received[0].headers["X-Trace-Id"]
    assert lost[first]["attempt"] == 2 and lost[first]["faults"]["worker:lost"] == 1
    attempts = {call["headers"]["x-attempt"] for call in tool_calls(server) if call["headers"]["x-trace-id"] == first}
    assert attempts == {"1", "2"}
    told = [text for text in events(job_file) if "was lost" in text]
    assert len(told) == 1 and f"(process {killed[0]}) was lost" in told[0] and "started again (1 of 3)" in told[0]


@pytest.mark.slow
def test_calls_that_may_not_repeat_are_not_repeated_for_a_lost_worker_and_no_worker_left_ends_the_job(
    tiny_model: Path, tmp_path: Path
) -> None:
    def kill() -> None:
        wait_for(lambda: bool(server.received), "a call")
        sender(server.received[0].peer_port, os.getpid()).send_signal(signal.SIGKILL)

    with serving(ChaosServer(default=hang())) as server, meanwhile(kill):
        job_file = write_job(
            tmp_path,
            tiny_model,
            server.url,
            cluster={"rollout_workers": 1, "max_restarts": 0},
            tool={"idempotent": False},
        )
        with pytest.raises(JobFailedError, match="infrastructure failures left no rollout with a reward"):
            run(job_file)
        keys = [one.headers["Idempotency-Key"] for one in server.received]
        assert len(keys) == len(set(keys))
    assert any("it is not started again, and 0 rollout worker(s) are left" in text for text in events(job_file))


@pytest.mark.slow
def test_a_worker_that_only_hangs_is_lost_too(tiny_model: Path, tmp_path: Path) -> None:
    stopped: list[psutil.Process] = []

    def stop_the_one_that_waits() -> None:
        wait_for(lambda: bool(server.received), "a call")
        stopped.append(sender(server.received[0].peer_port, os.getpid()))
        stopped[0].send_signal(signal.SIGSTOP)

    with serving(ChaosServer(script=[hang()])) as server, meanwhile(stop_the_one_that_waits):
        cluster = {**TWO, "worker_timeout_s": 30}
        job_file = write_job(tmp_path, tiny_model, server.url, cluster=cluster, hyperparameters=SHORT)
        job = run(job_file)
    first = server.received[0].headers["X-Trace-Id"]
    (record,) = [record for record in records_of(job) if record["trace_id"] == first]
    assert record["given_up"] == ["worker:lost"] and record["outcome"] != "infra_failed"
    assert any("did not answer within" in text and "cluster.worker_timeout_s" in text for text in events(job_file))
    assert not is_there(stopped[0])


@pytest.mark.slow
def test_a_job_that_is_stopped_breaks_off_what_its_workers_run_and_can_be_resumed(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serving(ChaosServer(script=[hang()])) as server:
        hooks = {"on_rollout_end": {"url": server.url}}
        job_file = write_job(tmp_path, tiny_model, server.url, cluster=TWO, hyperparameters=SHORT, **hooks)
        spec = load_job(job_file)
        store, job_id = create_job(spec, source=job_file)

        async def until_stopped() -> None:
            stop = Stop()
            job = asyncio.create_task(run_job(spec, store, job_id, progress=NoProgress(), stop=stop))
            while not server.received and not job.done():
                await asyncio.sleep(0.05)
            stop.request()
            await asyncio.wait_for(job, 600)

        with store:
            with pytest.raises(Interrupted):
                asyncio.run(until_stopped())
            begun = {call["headers"]["x-trace-id"] for call in tool_calls(server) if call["type"] == "function_call"}
            ends = Counter(call["trace_id"] for call in tool_calls(server) if call["type"] == "rollout_end")
            assert begun and all(ends[trace_id] == 1 for trace_id in begun)
            asyncio.run(run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop()))
    records = records_of(ended(tmp_path / "runs"))
    assert len(records) == len({record["trace_id"] for record in records}) == BASELINE + EACH_STEP


@pytest.mark.slow
def test_rollouts_of_workers_may_run_ahead_of_the_steps(tiny_model: Path, tmp_path: Path) -> None:
    with serving(ChaosServer(default=ok(delay_s=0.1))) as server:
        ahead = {"max_off_policy_steps": 2, "max_steps": 4}
        job = run(write_job(tmp_path, tiny_model, server.url, cluster=TWO, hyperparameters=ahead))
    trained = [line for line in job.lines if line["phase"] == "train"]
    assert [line["step"] for line in trained] == [1, 2, 3, 4]
    assert all(line["groups_dropped"] == 0 for line in trained)
    assert max(turn["policy_version"] for record in records_of(job) for turn in record["turns"]) >= 1


@pytest.mark.slow
def test_workers_end_with_a_job_that_is_killed(tiny_model: Path, tmp_path: Path) -> None:
    with serving(ChaosServer(default=hang())) as server:
        job_file = write_job(tmp_path, tiny_model, server.url, cluster=TWO)
        process = subprocess.Popen([sys.executable, "-m", "agentrft.cli", "train", str(job_file)])
        try:
            wait_for(lambda: bool(server.received) or process.poll() is not None, "a call")
            workers = worker_processes(process.pid)
            assert len(workers) == 2
        finally:
            process.kill()
            process.wait()
        wait_for(lambda: not any(map(is_there, workers)), "the end of its workers")


def is_there(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_without_workers_does_not_import_ray(tiny_model: Path, tmp_path: Path) -> None:
    with serving(ChaosServer()) as server:
        job_file = write_job(tmp_path, tiny_model, server.url, hyperparameters=SHORT)
        source = (
            "import sys\nfrom pathlib import Path\nfrom tests.cluster.ray_jobs import run\n"
            f"run(Path({str(job_file)!r}))\nassert 'ray' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", source], check=True, timeout=300)


def test_without_ray_the_error_names_the_extra(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    spec = load_job(write_job(tmp_path, tiny_model, "http://127.0.0.1:9/tool", cluster=TWO))
    with pytest.raises(UserError, match=r"agentrft\[cluster\]"):
        Runtime(spec)


async def test_a_cluster_that_is_not_there_is_named(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        cluster: dict[str, Any] = {**TWO, "address": "127.0.0.1:9"}
        runtime = Runtime(load_job(write_job(tmp_path, tiny_model, server.url, cluster=cluster)))
        try:
            with pytest.raises(UserError, match=r"cluster.address: no Ray cluster answers at 127.0.0.1:9"):
                await runtime.probe()
        finally:
            await runtime.close()
