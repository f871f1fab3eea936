"""How old the tokens of rollouts are: updates that the policy which sampled each of them lacked."""

from collections.abc import Iterable
from typing import NamedTuple

from agentrft.rollout import Rollout


class Age(NamedTuple):
    """Of the oldest token, and of all tokens on average, in updates."""

    most: int
    mean: float


def age_of(rollouts: Iterable[Rollout], version: int) -> Age:
    """Of what a policy of this version is to be trained on."""
    most, total, tokens = 0, 0, 0
    for rollout in rollouts:
        for turn in rollout.turns:
            for sampled_by, count in turn.version_spans:
                # Newer ones are of an update that was lost with its process, and is made again.
                age = max(0, version - sampled_by)
                most = max(most, age)
                total += age * count
                tokens += count
    return Age(most, total / tokens if tokens else 0.0)
