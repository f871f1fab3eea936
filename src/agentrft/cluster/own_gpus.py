"""The GPUs that a job's own process computes on, kept from being given to its actors."""

import threading
from contextlib import suppress
from typing import Any

from agentrft.errors import JobFailedError

HELD_S = 60.0


class GpuHolder:
    """Has them for that process, so that Ray gives them to nobody else."""

    def gpus(self) -> list[int]:
        """The numbers of those that it has."""
        import ray

        return [int(number) for number in ray.get_gpu_ids()]


class OwnGpus:
    """The first `count` of this machine, while whoever wants them is connected to a cluster; all parts of a process
    that hold them share one holder, and hold the same ones.
    """

    # Of this process.
    _lock = threading.Lock()
    _users = 0
    _holder: Any = None

    def __init__(self, count: int) -> None:
        self._count = count
        self._is_held = False

    def hold(self) -> None:
        """Have them, until `release`; blocks until they are had. Later calls do nothing.

        Raises:
            JobFailedError: one of them is somebody else's.
        """
        with OwnGpus._lock:
            if self._is_held:
                return
            if OwnGpus._holder is None:
                OwnGpus._holder = _held(self._count)
            OwnGpus._users += 1
            self._is_held = True

    def release(self) -> None:
        """Give them back once nobody of this process holds them any more."""
        import ray
        import ray.exceptions

        with OwnGpus._lock:
            if not self._is_held:
                return
            self._is_held = False
            OwnGpus._users -= 1
            if not OwnGpus._users:
                holder, OwnGpus._holder = OwnGpus._holder, None
                with suppress(ray.exceptions.RayError):  # of a cluster that is there no more
                    ray.kill(holder)


def _held(count: int) -> Any:
    import ray
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_gpus": count, "num_cpus": 0, "scheduling_strategy": here}
    new_holder: Any = ray.remote(**options)(GpuHolder)
    holder = new_holder.remote()
    try:
        numbers = ray.get(holder.gpus.remote(), timeout=HELD_S)
    except ray.exceptions.RayError:  # no room there, or not within that time
        numbers = []
    if sorted(numbers) != list(range(count)):
        ray.kill(holder)
        which = (
            "GPU of this machine, on which the learner's first rank computes, is"
            if count == 1
            else (f"{count} GPUs of this machine, on which the learner computes, are")
        )
        raise JobFailedError(
            f"the first {which} another job's.",
            "Wait for that, or run this job from another machine of the cluster.",
        )
    return holder
