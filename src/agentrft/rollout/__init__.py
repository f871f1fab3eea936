"""The agent loop: generate, call tools, read, until the final answer is graded; and groups of such rollouts.

Training, validation and baseline all run this code (docs/architecture.md, invariant 9).
"""

from agentrft.rollout.calls import CallRules
from agentrft.rollout.failed_reward import FailedReward, is_ungraded_failure
from agentrft.rollout.group import GroupResult, by_sample, form_group
from agentrft.rollout.loop import RolloutRunner
from agentrft.rollout.record import Rollout, ToolCallRecord, Turn, grader_sample
from agentrft.rollout.task import RolloutLimits, RolloutTask

__all__ = [
    "CallRules",
    "FailedReward",
    "GroupResult",
    "Rollout",
    "RolloutLimits",
    "RolloutRunner",
    "RolloutTask",
    "ToolCallRecord",
    "Turn",
    "by_sample",
    "form_group",
    "grader_sample",
    "is_ungraded_failure",
]
