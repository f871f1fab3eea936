"""Where the rollouts of tests of jobs run: in the job's process, or with AGENTRFT_BACKEND=ray in a Ray cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ON_RAY = os.environ.get("AGENTRFT_BACKEND") == "ray"
WORKERS = 2
# For jobs of several tests that run at once, and those that a test leaves to end by themselves.
ROOM = 16

# What a job file says of it.
cluster: dict[str, Any] = {}


@contextmanager
def chosen() -> Iterator[None]:
    """Start the cluster, if one is wanted, and have jobs use it from here on."""
    if not ON_RAY:
        yield
        return
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": ROOM,
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
            "_system_config": {"worker_niceness": 0},
        },
    )
    cluster.update(rollout_workers=WORKERS, address=nodes.address)
    try:
        yield
    finally:
        cluster.clear()
        nodes.shutdown()


def in_own_process(reason: str) -> pytest.MarkDecorator:
    """For a test that looks into a rollout in the job's own process, or changes something there."""
    return pytest.mark.skipif(ON_RAY, reason=f"rollouts run in other processes: {reason}")
