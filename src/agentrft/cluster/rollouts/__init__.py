"""Rollouts in processes of their own, as actors of Ray: conversations, calls, traffic and grading happen there.

The job's process keeps the engine, the gates of all endpoints and what is stored; `pool.py` is its side, `worker.py`
the other. Ray itself is imported by `processes.py` alone, and only where a job asks for workers.
"""

from agentrft.cluster.rollouts.pool import RolloutWorkers
from agentrft.cluster.rollouts.processes import RayProcesses
from agentrft.cluster.rollouts.setup import RolloutSetup

__all__ = ["RayProcesses", "RolloutSetup", "RolloutWorkers"]
