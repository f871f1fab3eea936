"""What turns graded groups into a new policy version: advantages, token trees, losses, the update, checkpoints.

It knows only finished groups of token ids, log-probabilities and rewards, never how they came to be.
"""

from agentrft.learner.algorithms import Clip
from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.options import UpdateOptions
from agentrft.learner.plan import UpdatePlan
from agentrft.learner.policy import Policy
from agentrft.learner.preferences import Pair, PreferenceMetrics
from agentrft.learner.supervised import Likelihood, SupervisedLearner
from agentrft.learner.update import Learner
from agentrft.learner.update_metrics import UpdateMetrics

__all__ = [
    "Clip",
    "Learner",
    "Likelihood",
    "Pair",
    "Policy",
    "PreferenceMetrics",
    "SupervisedLearner",
    "TrainingGroup",
    "TrainingRow",
    "UpdateMetrics",
    "UpdateOptions",
    "UpdatePlan",
]
