"""Rollout workers as actors of Ray.

Nothing here imports Ray before a job starts its workers.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from agentrft.cluster.ray_cluster import RayCluster, answer_of
from agentrft.cluster.rollouts.messages import Batch, NotStarted, Started, ToWorker
from agentrft.cluster.rollouts.setup import RolloutSetup
from agentrft.cluster.rollouts.worker import RolloutWorker

# Methods of an actor that are under way at once: a fetch, a tell, a close.
CALLS_AT_ONCE = 4


class Actor(Protocol):
    """A `RolloutWorker`, as another process sees it: each method raises `ActorLostError` besides."""

    async def start(self, setup: RolloutSetup) -> Started | NotStarted: ...

    async def fetch(self, patience_s: float) -> Batch: ...

    async def tell(self, messages: Sequence[ToWorker]) -> None: ...

    async def close(self) -> None: ...

    def kill(self) -> None:
        """End its process at once."""
        ...


class Processes(Protocol):
    """Where workers run; the methods as those of `RayProcesses`."""

    def open(self) -> None: ...

    def new_actor(self) -> Actor: ...

    def close(self) -> None: ...


class RayProcesses:
    """Args:
        address: of a Ray cluster; "local" starts one on this machine, which ends with this process.
        room: for how many actors of the job there is to be room in one that is started.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, address: str, room: int) -> None:
        self._cluster = RayCluster(address, room, wanted_by="cluster.rollout_workers")

    def open(self) -> None:
        """See `RayCluster.open`."""
        self._cluster.open()

    def new_actor(self) -> Actor:
        """Another process, somewhere in the cluster; it is there when its `start` answers."""
        import ray

        options: dict[str, Any] = {
            "num_cpus": 1,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": CALLS_AT_ONCE,
        }
        return _RayActor(ray.remote(**options)(RolloutWorker).remote())

    def close(self) -> None:
        """See `RayCluster.close`."""
        self._cluster.close()


class _RayActor:
    """See `Actor`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def start(self, setup: RolloutSetup) -> Started | NotStarted:
        return await answer_of(self._handle.start.remote(setup))

    async def fetch(self, patience_s: float) -> Batch:
        return await answer_of(self._handle.fetch.remote(patience_s))

    async def tell(self, messages: Sequence[ToWorker]) -> None:
        await answer_of(self._handle.tell.remote(messages))

    async def close(self) -> None:
        await answer_of(self._handle.close.remote())

    def kill(self) -> None:
        import ray

        ray.kill(self._handle)
