"""The agent loop: generate, call tools, read, until the final answer is graded; and groups of such rollouts.

Training, validation and baseline all run this code (docs/architecture.md, invariant 9).
"""

from agentrft.rollout.calls import CallRules
from agentrft.rollout.failed_reward import FailedReward, is_ungraded_failure
from agentrft.rollout.group import GroupResult, by_sample, form_group
from agentrft.rollout.loop import ATTEMPTS, EarlierAttempts, RolloutRunner, RunsRollouts
from agentrft.rollout.record import Rollout, ToolCallRecord, Turn, grader_sample
from agentrft.rollout.task import RolloutLimits, RolloutTask

__all__ = [
    "ATTEMPTS",
    "CallRules",
    "EarlierAttempts",
    "FailedReward",
    "GroupResult",
    "Rollout",
    "RolloutLimits",
    "RolloutRunner",
    "RolloutTask",
    "RunsRollouts",
    "ToolCallRecord",
    "Turn",
    "by_sample",
    "form_group",
    "grader_sample",
    "is_ungraded_failure",
]
