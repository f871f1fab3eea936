"""The GPUs of a job's own process are given to none of its actors."""

from typing import Any

import pytest

from agentrft.cluster import OwnGpus, RayCluster
from agentrft.errors import JobFailedError
from tests.cluster.ray_jobs import cluster_of


class Looks:
    def gpus(self) -> list[int]:
        import ray

        return [int(number) for number in ray.get_gpu_ids()]


def of_an_actor() -> tuple[Any, list[int]]:
    import ray

    new_actor: Any = ray.remote(num_gpus=1, num_cpus=0)(Looks)
    actor = new_actor.remote()
    return actor, ray.get(actor.gpus.remote(), timeout=60)


@pytest.mark.slow
def test_they_are_kept_until_the_last_who_holds_them_lets_them_go(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    with cluster_of(1, monkeypatch, gpus=3) as nodes:
        cluster = RayCluster(nodes.address, 0, wanted_by="a test")
        cluster.open()
        try:
            # Ranks of the learner, and servers beside them.
            one, other = OwnGpus(2), OwnGpus(2)
            for each in (one, other, one):
                each.hold()
            actor, seen = of_an_actor()
            assert seen == [2]
            one.release()
            one.release()
            monkeypatch.setattr("agentrft.cluster.own_gpus.HELD_S", 2.0)
            with pytest.raises(ray.exceptions.GetTimeoutError):
                ray.get(ray.remote(num_gpus=1, num_cpus=0)(lambda: None).remote(), timeout=2)
            other.release()
            taken, numbers = of_an_actor()
            assert numbers in ([0], [1])
            with pytest.raises(JobFailedError, match="the first 2 GPUs of this machine, on which the learner computes"):
                OwnGpus(2).hold()
            ray.kill(actor), ray.kill(taken)
        finally:
            cluster.close()
