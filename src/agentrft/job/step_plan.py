"""What a step's update is made of: the step's groups, and what earlier steps got right.

All of it is a function of rollouts as they are stored, so that an update can be made again from them (`recovery.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentrft.graders import reward_weights
from agentrft.job.replay import Replay
from agentrft.job.runtime import Runtime
from agentrft.job.training_data import training_group
from agentrft.learner import Learner
from agentrft.learner.plan import UpdatePlan
from agentrft.rollout import GroupResult, Rollout


@dataclass(frozen=True)
class StepPlan:
    """The update of a step.

    Attributes:
        plan: for the learner.
        trained: the rollouts of each group that it was made of.
    """

    plan: UpdatePlan
    trained: list[list[Rollout]]


class StepPlanner:
    """Plans the updates of one job's steps, in their order: `note` each step before the next one is planned."""

    def __init__(self, runtime: Runtime, learner: Learner) -> None:
        self._learner = learner
        self._replayed = runtime.hyperparameters.replay_rollouts
        self._weights = reward_weights(runtime.grader)
        self._replay = Replay(
            runtime.spec.pass_threshold,
            runtime.spec.seed,
            borrows=runtime.hyperparameters.borrow_answers,
            holdouts=runtime.spec.holdout_thresholds,
        )

    def plan(self, step: int, groups: Sequence[GroupResult]) -> StepPlan:
        """The update of a step; groups that infrastructure broke are left out."""
        lessons = self._replay.lessons(step, groups)
        kept = [group for group in groups if not group.was_dropped]
        trainable = [training_group(one.kept, self._weights, lessons.get(one.sample_id, ())) for one in kept]
        plan = self._learner.plan(trainable, self._replay.rows(step, self._replayed))
        return StepPlan(plan, [group.kept for group in kept])

    def note(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Take in a step that is done: later ones may replay what it got right."""
        if self._replayed > 0:
            self._replay.note(step, rollouts)
