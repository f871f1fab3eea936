"""Jobs with rollout workers, and the processes that those are."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.spec import load_job
from agentrft.store import JobStore
from tests.job.ended import Ended, ended

DEADLINE_S = 600.0
# Room for one worker.
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextmanager
def cluster_of(nodes: int, monkeypatch: pytest.MonkeyPatch, *, gpus: int = 0) -> Iterator[Any]:
    """A Ray cluster of so many nodes, all of this machine; the first says that it has so many GPUs."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Other tests run on this machine, too.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_gpus": gpus, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()


def run(job_file: Path) -> Ended:
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    with store:
        asyncio.run(run_job(spec, store, job_id, progress=NoProgress(), stop=Stop()))
    return ended(job_file.parent / "runs")


def events(job_file: Path) -> list[str]:
    with JobStore(job_file.parent / "runs", create=False) as store:
        return [event.message for event in store.events(store.find_job("latest").job_id)]


def records_of(job: Ended) -> list[dict[str, Any]]:
    """The records of all rollouts."""
    return [row["record"] for rows in job.rollouts.values() for row in rows]


def worker_processes(of: int) -> list[psutil.Process]:
    """The rollout workers of a process's own cluster."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if process.name().startswith("ray::RolloutWor"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def sender(port: int, of: int) -> psutil.Process:
    """The worker whose connection has that port."""
    for process in worker_processes(of):
        if any(connection.laddr.port == port for connection in process.net_connections("tcp") if connection.laddr):
            return process
    raise AssertionError(f"no worker of process {of} has a connection from port {port}")


def wait_for(what: Callable[[], bool], name: str) -> None:
    """Poll until it is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, f"{name}: not within {DEADLINE_S:g} s"
        time.sleep(0.05)
