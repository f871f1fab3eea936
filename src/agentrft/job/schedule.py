"""Which samples each step trains on: a pure function of the seed, so that a resumed job needs no cursor on disk."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def samples_of_step(samples: Sequence[T], *, batch_size: int, seed: int, step: int) -> list[T]:
    """The samples of `step` (from 1): each epoch is a new shuffle, and its last batch may be smaller."""
    batches_per_epoch = -(-len(samples) // batch_size)
    epoch, batch = divmod(step - 1, batches_per_epoch)
    order = list(range(len(samples)))
    random.Random(f"{seed}/epoch/{epoch}").shuffle(order)
    return [samples[index] for index in order[batch * batch_size : (batch + 1) * batch_size]]
