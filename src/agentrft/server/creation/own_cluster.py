"""Where the rollout workers and spread ranks of a server's jobs run: on its machine or in its cluster, and how many a
job may have."""

from collections.abc import Mapping
from typing import Any

from agentrft.server.errors import ApiError
from agentrft.server.settings import Settings
from agentrft.spec import AnyJobSpec, JobSpec

LOCAL = "local"


def with_own_cluster(cluster: Any, settings: Settings) -> Any:
    """A request's `cluster`, with the address of the server's own where it has one; whatever else it is, as it is."""
    if settings.cluster is None or not isinstance(cluster, dict):
        return cluster
    if not (cluster.get("rollout_workers") or cluster.get("spread_learner")):
        return cluster
    return {"address": settings.cluster, **cluster}


def check_cluster(cluster: Mapping[str, Any], settings: Settings) -> None:
    """Refuse what a request may not have of clusters.

    Raises:
        ApiError: it names a cluster of its own, or asks for too many workers.
    """
    if cluster.get("engines"):
        message = "cluster.engines: not for a request to start; give engine.url, or leave it out."
        raise ApiError(400, message, param="cluster", code="invalid_value")
    if cluster.get("address", LOCAL) not in (LOCAL, settings.cluster):
        message = "cluster.address: another cluster of the server's is not for a request to name; leave it out."
        raise ApiError(400, message, param="cluster", code="invalid_value")
    most, workers = settings.max_rollout_workers, cluster.get("rollout_workers", 0)
    ranks = cluster.get("learner_workers", 1) - 1 if cluster.get("spread_learner") else 0
    if workers + ranks > most:
        name = "cluster.rollout_workers" if not ranks else "cluster.rollout_workers and spread ranks"
        message = f"{name}: a job may have at most {most} here (--max-rollout-workers)."
        raise ApiError(400, message, param="cluster", code="invalid_value")


def in_own_cluster(spec: AnyJobSpec, settings: Settings) -> AnyJobSpec:
    """A stored job, in the cluster that the server has now, which may be another one than when it was created."""
    if not isinstance(spec, JobSpec) or not (spec.cluster.rollout_workers or spec.cluster.spread_learner):
        return spec
    changes: dict[str, Any] = {"address": settings.cluster or LOCAL}
    if settings.cluster is None:
        # There is room for all workers in one that a job starts, and ranks are on its machine.
        changes |= {"min_rollout_workers": None, "spread_learner": False}
    return spec.model_copy(update={"cluster": spec.cluster.model_copy(update=changes)})
