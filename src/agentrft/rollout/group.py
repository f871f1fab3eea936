"""Groups: what is left of a sample's rollouts once infrastructure failures have left."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentrft.rollout.record import Rollout

MIN_GROUP = 2


@dataclass(frozen=True)
class GroupResult:
    """One sample's rollouts of one step.

    `rollouts` are all of them. `kept` have rewards and are trained on; empty if fewer than two were left. `dropped`
    counts infrastructure failures by kind.
    """

    sample_id: str
    rollouts: list[Rollout]
    kept: list[Rollout]
    dropped: Counter[str]

    @property
    def was_dropped(self) -> bool:
        return not self.kept


def by_sample(rollouts: Iterable[Rollout]) -> dict[str, list[Rollout]]:
    """Rollouts by their sample, in the order in which these come first."""
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        found.setdefault(rollout.sample_id, []).append(rollout)
    return found


def form_group(sample_id: str, rollouts: Sequence[Rollout]) -> GroupResult:
    """Sort a sample's rollouts into kept and dropped (docs/architecture.md, invariant 3)."""
    kept = [rollout for rollout in rollouts if rollout.outcome != "infra_failed"]
    dropped = Counter(r.failure_kind or "unknown" for r in rollouts if r.outcome == "infra_failed")
    return GroupResult(sample_id, list(rollouts), kept if len(kept) >= MIN_GROUP else [], dropped)
