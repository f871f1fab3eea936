"""A job's work in several processes: a learner of several ranks here, rollouts in `rollouts/`, engines in `engines/`.

Of the ranks this process is the first, and starts the others on the same machine, or in a Ray cluster. It has what a
job needs beside the learner, such as the engine and the checkpoints; the others compute their part of every update, and
end with it.
"""

from agentrft.cluster.learner import RankedLearner
from agentrft.cluster.own_gpus import OwnGpus
from agentrft.cluster.ranks import Ranks
from agentrft.cluster.ray_cluster import RayCluster
from agentrft.cluster.ray_ranks import InCluster
from agentrft.cluster.setup import RankSetup

__all__ = ["InCluster", "OwnGpus", "RankSetup", "RankedLearner", "Ranks", "RayCluster"]
