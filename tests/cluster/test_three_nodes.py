"""A job on a Ray cluster of three nodes, all of this machine, in which everything is killed that can be."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrft.errors import UserError
from agentrft.store import JobStore
from tests.cluster.engine_process import EngineProcess
from tests.cluster.ray_jobs import NODE, cluster_of, events, records_of, sender, wait_for, worker_processes
from tests.job.ended import ended
from tests.job.tiny_job import serving, write_job
from tests.traffic.chaos_server import ChaosServer, ok

pytestmark = pytest.mark.slow
STEPS, OF_STEP = 5, 2 * 4
LIMIT = 3


class Command:
    """`agentrft train`, as a user runs it, and what it has stored."""

    def __init__(self, job_file: Path) -> None:
        self._job_file = job_file
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin the job, or go on with it."""
        resumes = [] if self.process is None else ["--resume", "latest"]
        folder = ["--output-dir", str(self._job_file.parent / "runs")] if resumes else [str(self._job_file)]
        self.process = subprocess.Popen([sys.executable, "-m", "agentrft.cli", "train", *folder, *resumes])

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def ends(self) -> int:
        assert self.process is not None
        return self.process.wait(600)

    def steps(self) -> list[int]:
        """That have been made, the baseline among them as 0."""
        try:
            with JobStore(self._job_file.parent / "runs", create=False) as store:
                rows = store.metrics(store.find_job("latest").job_id)
        except UserError:  # it has not come so far
            return []
        return [0] * any(row["phase"] == "validation" for row in rows) + [
            row["step"] for row in rows if row["phase"] == "train"
        ]

    def is_at(self, step: int) -> bool:
        """Whether that is the newest; the command must not have ended meanwhile."""
        assert not self.has_ended(), "the command has ended"
        return self.steps()[-1:] == [step]

    def rank(self) -> psutil.Process:
        """The learner's other one."""
        assert self.process is not None
        (found,) = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "agentrft.cluster.rank" in " ".join(child.cmdline())
        ]
        return found


def test_whatever_is_killed_the_job_ends_and_nothing_counts_twice(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(ChaosServer(default=ok(delay_s=0.3))) as server,
        EngineProcess(tiny_model) as engine,
        EngineProcess(tiny_model) as other_engine,
        cluster_of(3, monkeypatch) as cluster,
    ):
        job_file = write_job(
            tmp_path,
            tiny_model,
            server.url,
            cluster={
                "address": cluster.address,
                "rollout_workers": 3,
                "min_rollout_workers": 1,
                "max_restarts": 10,
                "learner_workers": 2,
            },
            engine={"type": "vllm", "urls": [engine.url, other_engine.url]},
            tool={"max_concurrency": LIMIT},
            hyperparameters={"max_steps": STEPS, "eval_interval": STEPS},
        )
        job = Command(job_file)

        def in_step(step: int) -> None:
            """Some of its rollouts have called, and some have not."""
            wait_for(lambda: job.is_at(step - 1), f"step {step}")
            before = len(server.received)
            wait_for(lambda: job.is_at(step - 1) and len(server.received) >= before + 2, "its calls")

        def quiet() -> None:
            """Nothing has called for a while."""
            seen = (-1, time.monotonic())

            def is_quiet() -> bool:
                nonlocal seen
                if len(server.received) != seen[0]:
                    seen = (len(server.received), time.monotonic())
                return time.monotonic() > seen[1] + 5

            wait_for(is_quiet, "the end of a step's calls")

        job.start()
        in_step(1)
        sender(server.received[-1].peer_port, os.getpid()).kill()

        in_step(2)
        engine.kill()
        wait_for(lambda: job.is_at(2), "the step without the engine")
        engine.begin()

        # A rank that does not move holds the update up; then it is killed in the middle of it.
        in_step(3)
        rank = job.rank()
        rank.send_signal(signal.SIGSTOP)
        quiet()
        assert job.is_at(2)
        rank.kill()
        assert job.ends() != 0
        job.start()

        in_step(4)
        assert job.process is not None
        job.process.kill()
        job.ends()
        wait_for(lambda: not worker_processes(os.getpid()), "the end of its workers")
        job.start()

        in_step(5)
        # The head's own worker is no node to lose: the job is connected there.
        gone = next(node for worker in worker_processes(os.getpid()) for node in nodes_of(worker, cluster))
        cluster.remove_node(gone, allow_graceful=False)
        joined = told(job_file, "is there:")
        cluster.add_node(**NODE)
        wait_for(lambda: told(job_file, "is there:") > joined or job.has_ended(), "the next worker")
        assert job.ends() == 0
        assert engine.answers()
        assert server.max_in_flight <= LIMIT

    ran = ended(tmp_path / "runs")
    assert [line["step"] for line in ran.lines if line["phase"] == "train"] == [1, 2, 3, 4, 5]
    records = records_of(ran)
    assert {record["outcome"] for record in records} <= {"graded", "model_failed"}
    assert len(records) == len({record["trace_id"] for record in records})
    rows = [row for rows in ran.rollouts.values() for row in rows if row["phase"] == "train"]
    assert Counter(row["step"] for row in rows) == dict.fromkeys(range(1, STEPS + 1), OF_STEP)
    assert told(job_file, "was lost: its process ended") >= 1
    assert any("worker:lost" in record["given_up"] for record in records)


def told(job_file: Path, words: str) -> int:
    """How often an event has these words."""
    return sum(words in text for text in events(job_file))


def nodes_of(worker: psutil.Process, cluster: Any) -> list[Any]:
    """The node of the cluster, other than its head, that a worker's process belongs to; none for one of the head."""
    above = {parent.pid for parent in worker.parents()}
    return [node for node in cluster.worker_nodes if above & pids_of(node)]


def pids_of(node: Any) -> set[int]:
    return {process.process.pid for processes in node.all_processes.values() for process in processes}
