"""The processes that run a job's rollouts, where it asks for some."""

from agentrft.cluster.rollouts import RayProcesses, RolloutSetup, RolloutWorkers
from agentrft.models.catalog import ModelSource
from agentrft.rollout import RolloutLimits
from agentrft.spec import JobSpec
from agentrft.tools import Toolbox
from agentrft.traffic import Gates, Notify


def make_rollout_workers(
    spec: JobSpec, source: ModelSource, limits: RolloutLimits, gates: Gates, toolbox: Toolbox, notify: Notify
) -> RolloutWorkers | None:
    """The job's, of which none is started; None where its own process runs the rollouts.

    Args:
        gates: of the endpoints that were made here.

    Raises:
        UserError: Ray is not installed.
    """
    if not spec.cluster.rollout_workers:
        return None
    cluster, setup = spec.cluster, RolloutSetup.here(spec, source, limits)
    processes = RayProcesses(cluster.address, cluster.actors_of_a_core)
    return RolloutWorkers(cluster, setup, gates, toolbox, notify, processes)
