"""Replay: successes of earlier steps that updates go on to make more likely (self-imitation).

Oh et al. 2018, "Self-Imitation Learning", arXiv:1806.05635. What is rare counts most, for its sample and among all
successes: a policy that is paid for an easy habit, such as to answer with a search's first item, unlearns the harder
way long before it has stopped to be right that way.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agentrft.job.training_data import training_rows
from agentrft.learner import TrainingRow
from agentrft.report.behaviours import answered_item
from agentrft.report.summary import SAME_REWARD
from agentrft.rollout import Rollout

# Samples whose successes are kept.
CAPACITY = 512
# Steps after which a success is half as likely to be replayed.
HALF_LIFE = 10
# Successes of a kind that count as so many at least, so that a single odd one is not replayed all the time.
LEAST_OF_KIND = 4
# How likely the success of a sample is replayed that is always right, beside one that hardly ever is.
LEAST_RARITY = 0.05


@dataclass(frozen=True)
class _Success:
    """`kind` is which item of its last tool result the rollout answers with, from 0; None for none of them."""

    step: int
    rarity: float
    kind: int | None
    rows: list[TrainingRow]


class Replay:
    """The latest successes by sample. A pure function of the rollouts of earlier steps: nothing of it is stored.

    Args:
        pass_threshold: the reward of a success.
    """

    def __init__(self, pass_threshold: float, seed: int) -> None:
        self._threshold = pass_threshold
        self._seed = seed
        self._kept: dict[str, _Success] = {}

    def note(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Keep a success of each sample that has one, in place of an older one."""
        by_sample: dict[str, list[Rollout]] = {}
        for rollout in rollouts:
            if rollout.reward is not None:
                by_sample.setdefault(rollout.sample_id, []).append(rollout)
        for sample_id, group in by_sample.items():
            successes = [r for r in group if (r.reward or 0.0) >= self._threshold - SAME_REWARD and r.turns]
            if not successes:
                continue
            chosen = random.Random(f"{self._seed}/replay/{step}/{sample_id}").choice(successes)
            rarity = 1 - len(successes) / len(group)
            self._kept.pop(sample_id, None)
            self._kept[sample_id] = _Success(
                step, max(LEAST_RARITY, rarity), answered_item(chosen), training_rows(chosen, 0)
            )
        for oldest in list(self._kept)[: max(0, len(self._kept) - CAPACITY)]:
            del self._kept[oldest]

    def rows(self, step: int, count: int) -> list[TrainingRow]:
        """Of `count` successes at most, drawn without replacement: rare ones and late ones first, and of each kind as
        many as of any other."""
        of_kind = Counter(success.kind for success in self._kept.values())

        def key(entry: tuple[str, _Success]) -> float:
            sample_id, success = entry
            weight = success.rarity * 0.5 ** ((step - success.step) / HALF_LIFE)
            weight /= max(LEAST_OF_KIND, of_kind[success.kind])
            uniform = random.Random(f"{self._seed}/replayed/{step}/{sample_id}").random()
            # The logarithm of uniform ** (1 / weight) (Efraimidis, Spirakis 2006): old successes have tiny weights.
            return math.log(uniform) / weight

        drawn = sorted(self._kept.items(), key=key, reverse=True)[:count]
        return [row for _, success in drawn for row in success.rows]
