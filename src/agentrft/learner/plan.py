"""The plan of an update: which groups each optimizer step sees, and with which advantages."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from agentrft.learner.group import TrainingRow

T = TypeVar("T")


@dataclass(frozen=True)
class PlannedGroup:
    """A group that has something to teach.

    Attributes:
        number: within the plan.
        rows, rollouts, lessons: the group's.
        advantages: float32, of each sampled token, row after row.
        place: of the group among those that the plan was made of.
        members: of its rollouts, their numbers in that group, of which some may have been left out.
    """

    number: int
    rows: list[TrainingRow]
    rollouts: int
    advantages: Float[Tensor, "tokens"]
    lessons: list[TrainingRow] = field(default_factory=list[TrainingRow])
    place: int = 0
    members: list[int] = field(default_factory=list[int])


@dataclass(frozen=True)
class MinibatchSize:
    """What the losses of a minibatch are divided by.

    Attributes:
        tokens, rollouts: sampled tokens and rollouts of its groups.
        learned_tokens: that are made more likely: of lessons and of replay.
    """

    tokens: int
    rollouts: int
    learned_tokens: int


@dataclass(frozen=True)
class Minibatch:
    """What one optimizer step sees: groups, and rollouts of earlier steps that are made more likely.

    Attributes:
        whole: where this is one rank's part of a minibatch, the size of all of it.
    """

    groups: list[PlannedGroup]
    replay: list[TrainingRow] = field(default_factory=list[TrainingRow])
    whole: MinibatchSize | None = None

    @cached_property
    def size(self) -> MinibatchSize:
        """Of the whole minibatch, all ranks' parts together."""
        if self.whole is not None:
            return self.whole
        lessons = [row for group in self.groups for row in group.lessons]
        return MinibatchSize(
            tokens=sum(len(group.advantages) for group in self.groups),
            rollouts=sum(group.rollouts for group in self.groups),
            learned_tokens=sum(len(row.sampled_positions) for row in (*lessons, *self.replay)),
        )


@dataclass(frozen=True)
class UpdatePlan:
    """One update.

    Attributes:
        groups: that have something to teach.
        minibatches: in the order of their optimizer steps, all epochs after another.
        zero_variance: groups that were left out because nothing in them is better than anything else.
    """

    groups: list[PlannedGroup]
    minibatches: list[Minibatch]
    zero_variance: int

    @classmethod
    def of(
        cls,
        groups: Sequence[PlannedGroup],
        *,
        minibatches: int,
        epochs: int,
        order: random.Random,
        replay: Sequence[TrainingRow] = (),
        zero_variance: int = 0,
    ) -> "UpdatePlan":
        """Whole groups by minibatch, as many in each as in any other, shuffled anew in every epoch.

        Args:
            minibatches: at most; never more than there are groups.
            order: what shuffles. A plan of a single minibatch is not shuffled.
        """
        steps: list[Minibatch] = []
        parts = max(1, min(minibatches, len(groups)))
        for _ in range(epochs):
            chosen, again = list(groups), list(replay)
            if parts > 1:
                order.shuffle(chosen)
                order.shuffle(again)
            shares = zip(_shared_out(chosen, parts), _shared_out(again, parts), strict=True)
            steps += [Minibatch(own, rows) for own, rows in shares if own or rows]
        return cls(list(groups), steps, zero_variance)


def _shared_out(things: Sequence[T], parts: int) -> list[list[T]]:
    return [list(things[part::parts]) for part in range(parts)]
