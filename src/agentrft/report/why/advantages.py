"""What an update paid each rollout: as its record has it, or, of records that lack it, as the job's algorithm says.

What a record has is what was trained on, whatever the job's options. What is worked out here knows of rewards and the
algorithm alone; the tests hold it to `learner.algorithms`, which needs torch.
"""

import math
from collections.abc import Callable, Sequence

from agentrft.report.averages import mean
from agentrft.report.summary import OUT_OF_TOKENS, SAME_REWARD
from agentrft.rollout.group import MIN_GROUP, by_sample
from agentrft.rollout.record import Rollout
from agentrft.store.layout import TRAIN

EPSILON = 1e-4
# A rollout's advantage, and why the update left it out: "infrastructure", "alone" in its group, "alike" in reward with
# all of it, or "cut off" and masked. None: it was paid, or it is of no update.
Paid = tuple[float | None, str | None]
NOTHING: Paid = (None, None)


def advantages(rollouts: Sequence[Rollout], *, phase: str, algorithm: str) -> list[Paid]:
    """Of each rollout of a step what its update paid it."""
    if phase != TRAIN:
        return [NOTHING] * len(rollouts)
    is_recorded = any(one.advantage is not None for one in rollouts)
    found: dict[str, Paid] = {}
    for group in by_sample(rollouts).values():
        kept = [one for one in group if one.reward is not None]
        rewards = [one.reward or 0.0 for one in kept]
        if len(kept) < MIN_GROUP:
            paid: list[Paid] = [(0.0, "alone")] * len(kept)
        elif is_recorded:
            # Before rewards are looked at: where their parts are compared apart, a group of equal ones is trained on.
            paid = [_recorded(one) for one in kept]
        elif max(rewards) - min(rewards) <= SAME_REWARD:
            paid = [(0.0, "alike")] * len(kept)
        else:
            paid = [(value, None) for value in by_rewards(algorithm, rewards)]
        found |= {one.trace_id: one_paid for one, one_paid in zip(kept, paid, strict=True)}
    return [found.get(one.trace_id, (None, "infrastructure")) for one in rollouts]


def by_rewards(algorithm: str, rewards: Sequence[float]) -> list[float]:
    """What an algorithm makes of the rewards of a group, with options as they are by default."""
    return ALGORITHMS.get(algorithm, _grpo)(rewards)


def _recorded(rollout: Rollout) -> Paid:
    paid = rollout.advantage
    if paid is not None:
        return paid, None
    return 0.0, "cut off" if rollout.failure_kind in OUT_OF_TOKENS else "alike"


def _grpo(rewards: Sequence[float]) -> list[float]:
    centre = mean(rewards)
    spread = math.sqrt(sum((one - centre) ** 2 for one in rewards) / (len(rewards) - 1))
    return [(one - centre) / (spread + EPSILON) for one in rewards]


def _dr_grpo(rewards: Sequence[float]) -> list[float]:
    centre = mean(rewards)
    return [one - centre for one in rewards]


def _rloo(rewards: Sequence[float]) -> list[float]:
    total, others = math.fsum(rewards), len(rewards) - 1
    return [one - (total - one) / others for one in rewards]


def _maxrl(rewards: Sequence[float]) -> list[float]:
    centre = mean(rewards)
    return [(one - centre) / (centre - min(rewards) + EPSILON) for one in rewards]


# The others divide by the deviation, as GRPO does.
ALGORITHMS: dict[str, Callable[[Sequence[float]], list[float]]] = {"dr_grpo": _dr_grpo, "rloo": _rloo, "maxrl": _maxrl}
