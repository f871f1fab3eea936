"""What turns graded groups into a new policy version: advantages, token trees, losses, the update, checkpoints.

It knows only finished groups of token ids, log-probabilities and rewards, never how they came to be.
"""

from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.policy import Policy
from agentrft.learner.update import Learner, UpdateMetrics

__all__ = ["Learner", "Policy", "TrainingGroup", "TrainingRow", "UpdateMetrics"]
