"""What a rollout gets in which the agent failed: never more than one that was graded (docs/concepts.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentrft.graders import score_range
from agentrft.rollout.record import Rollout
from agentrft.spec import JobSpec


@dataclass(frozen=True)
class FailedReward:
    """The rule of one job.

    Attributes:
        fixed: what the job says, or else the lowest score of the grader's range; None where the grader may give any
            number. Then a failure gets the lowest reward that was graded beside it, and never more than 0.
    """

    fixed: float | None = None

    @classmethod
    def of(cls, spec: JobSpec) -> "FailedReward":
        given = spec.model_failed_reward
        if given != "auto":
            return cls(given)
        known = score_range(spec.grader)
        return cls(None if known is None else known[0])

    @property
    def until_settled(self) -> float:
        """The reward of a failure for as long as those beside it are not known."""
        return 0.0 if self.fixed is None else self.fixed

    def beside(self, rollouts: Iterable[Rollout]) -> float:
        """The reward of a failure beside these rollouts."""
        if self.fixed is not None:
            return self.fixed
        return min((_graded(rollout) for rollout in rollouts if not is_ungraded_failure(rollout)), default=0.0)

    def rewards(self, group: Sequence[Rollout]) -> list[float]:
        """Of a group, as far as it is known: without those whose infrastructure failed."""
        failed = self.beside(group)
        rewards = [failed if is_ungraded_failure(rollout) else rollout.reward for rollout in group]
        return [reward for reward in rewards if reward is not None]

    def settle(self, rollouts: Sequence[Rollout], *, by_group: bool) -> None:
        """Give the failures among rollouts of one step their reward; those of an earlier process included.

        Args:
            by_group: True for training, which compares within groups: each failure gets the lowest of its group. False
                for measuring, which compares means: all get the lowest of all.
        """
        lowest = self.beside(rollouts)
        groups: dict[str, list[Rollout]] = {}
        for rollout in rollouts:
            groups.setdefault(rollout.sample_id if by_group else "", []).append(rollout)
        for group in groups.values():
            # Where the agent failed in all of a group, it is priced as elsewhere in the step.
            has_graded = any(rollout.outcome == "graded" for rollout in group)
            reward = self.beside(group) if has_graded else lowest
            for rollout in filter(is_ungraded_failure, group):
                rollout.reward = reward


def is_ungraded_failure(rollout: Rollout) -> bool:
    """Whether the agent failed, and no grader saw what there was (`grade_unfinished`)."""
    return rollout.outcome == "model_failed" and rollout.grade is None


def _graded(rollout: Rollout) -> float:
    return 0.0 if rollout.reward is None else min(0.0, rollout.reward)
