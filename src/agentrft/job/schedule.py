"""Which samples each step trains on: a pure function of the seed, and of the rewards of earlier steps where difficulty
counts, so that a resumed job needs no cursor on disk."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from agentrft.data import Sample
from agentrft.report.summary import SAME_REWARD

T = TypeVar("T")
# A sample is never drawn less often than this, beside one with something to learn from: policies change.
DIFFICULTY_FLOOR = 0.1


class Difficulty:
    """Which samples were all right or all wrong lately, and so taught nothing."""

    def __init__(self) -> None:
        self._flat_groups: Counter[str] = Counter()

    def record(self, sample_id: str, rewards: Iterable[float]) -> None:
        """Take note of a group's rewards, in the order of steps."""
        known = list(rewards)
        if len(known) < 2:
            return
        if max(known) - min(known) > SAME_REWARD:
            self._flat_groups[sample_id] = 0
        else:
            self._flat_groups[sample_id] += 1

    def weight(self, sample_id: str) -> float:
        """Halved with every group in a row without variance, down to `DIFFICULTY_FLOOR`."""
        return max(DIFFICULTY_FLOOR, 0.5 ** self._flat_groups[sample_id])

    def samples_of_step(self, samples: Sequence[Sample], *, batch_size: int, seed: int, step: int) -> list[Sample]:
        """A weighted draw without replacement (Efraimidis, Spirakis 2006, doi:10.1016/j.ipl.2005.11.003)."""

        def key(sample: Sample) -> float:
            uniform = random.Random(f"{seed}/difficulty/{step}/{sample.sample_id}").random()
            return uniform ** (1 / self.weight(sample.sample_id))

        return sorted(samples, key=key, reverse=True)[:batch_size]


def samples_of_step(samples: Sequence[T], *, batch_size: int, seed: int, step: int) -> list[T]:
    """The samples of `step` (from 1): each epoch is a new shuffle, and its last batch may be smaller."""
    epoch, batch = divmod(step - 1, _batches(len(samples), batch_size))
    return shuffled(samples, f"{seed}/epoch/{epoch}")[batch * batch_size : (batch + 1) * batch_size]


def epoch_of(step: int, *, samples: int, batch_size: int) -> int:
    """Which time, from 1, a step's samples are those of an epoch."""
    return (step - 1) // _batches(samples, batch_size) + 1


def _batches(samples: int, batch_size: int) -> int:
    """Of an epoch."""
    return -(-samples // batch_size)


def shuffled(samples: Sequence[T], seed: str) -> list[T]:
    """In an order that the seed alone decides."""
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)
    return [samples[index] for index in order]
