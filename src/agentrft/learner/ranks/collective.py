"""What the ranks of a learner do together."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

# Numbers of all tensors that are sent as one.
AT_ONCE = 1 << 24


class Collective(Protocol):
    """Each method is called by all ranks in the same order, and gives each the same.

    Attributes:
        rank, size: which of how many.
    """

    rank: int
    size: int

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor (float32, of the same shapes on all ranks) the sum of all ranks' own, in place."""
        ...

    def total(self, *numbers: float) -> list[float]:
        """The sum of each number over the ranks, in float64."""
        ...

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        ...


class Alone:
    """One rank, which everything is already the sum of."""

    rank, size = 0, 1

    def add(self, tensors: Sequence[Tensor]) -> None:
        """See `Collective`."""

    def total(self, *numbers: float) -> list[float]:
        """See `Collective`."""
        return list(numbers)

    def most(self, number: int) -> int:
        """See `Collective`."""
        return number


class AllRanks:
    """The ranks of torch.distributed's default group, which is there."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def add(self, tensors: Sequence[Tensor]) -> None:
        """See `Collective`."""
        together: list[Tensor] = []
        for tensor in tensors:
            if together and sum(one.numel() for one in together) + tensor.numel() > AT_ONCE:
                _add_as_one(together)
                together = []
            together.append(tensor)
        if together:
            _add_as_one(together)

    def total(self, *numbers: float) -> list[float]:
        """See `Collective`."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return sums.tolist()

    def most(self, number: int) -> int:
        """See `Collective`."""
        largest = torch.tensor([number])
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)


def _add_as_one(tensors: Sequence[Tensor]) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
