"""Signs that a reward is gamed: it rises while a grader that never trains says that the work got worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.rollout.record import Rollout

ROLLOUTS_SHOWN = 3


@dataclass(frozen=True)
class Divergence:
    """A holdout that fell while the reward rose: means over some steps, where the holdout was best and the last."""

    holdout: str
    reward_before: float
    reward_after: float
    holdout_before: float
    holdout_after: float

    @property
    def fall(self) -> float:
        return self.holdout_before - self.holdout_after

    @property
    def text(self) -> str:
        return (
            f"the reward rose from {self.reward_before:.2f} to {self.reward_after:.2f} while holdout "
            f"'{self.holdout}' fell from {self.holdout_before:.2f} to {self.holdout_after:.2f}: the grader may be gamed"
        )


def divergences(steps: Sequence[Mapping[str, Any]], *, least_change: float, window: int) -> list[Divergence]:
    """The holdouts that fell while the reward rose.

    Args:
        steps: metrics of the training steps, in order; those without a holdout's score are left out for it.
        least_change: of both means.
        window: steps that a mean is of.
    """
    names = dict.fromkeys(name for step in steps for name in step.get("holdout_scores", {}))
    found = []
    for name in names:
        scored = [step for step in steps if name in step.get("holdout_scores", {})]
        if len(scored) < 2 * window:
            continue
        earlier = [scored[start : start + window] for start in range(len(scored) - 2 * window + 1)]
        first = max(earlier, key=lambda some: _mean(step["holdout_scores"][name] for step in some))
        last = scored[-window:]
        divergence = Divergence(
            name,
            reward_before=_mean(step["reward_mean"] for step in first),
            reward_after=_mean(step["reward_mean"] for step in last),
            holdout_before=_mean(step["holdout_scores"][name] for step in first),
            holdout_after=_mean(step["holdout_scores"][name] for step in last),
        )
        rose = divergence.reward_after - divergence.reward_before >= least_change
        fell = divergence.fall >= least_change
        if rose and fell:
            found.append(divergence)
    return found


def most_suspicious(rollouts: Sequence[Rollout], holdout: str) -> list[str]:
    """Trace ids of the rollouts whose reward is furthest above what the holdout says."""
    scored = [
        (rollout.reward - rollout.holdout_scores[holdout], rollout.trace_id)
        for rollout in rollouts
        if rollout.reward is not None and holdout in rollout.holdout_scores
    ]
    return [trace_id for gap, trace_id in sorted(scored, reverse=True)[:ROLLOUTS_SHOWN] if gap > 0]


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)
