"""Several groups in one pass: larger products, and what their prompts have in common is computed once; and a group that
is too large for one in several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agentrft.learner.group import TrainingRow
from agentrft.learner.plan import PlannedGroup
from agentrft.learner.token_tree import build_token_tree


class Rows(Protocol):
    """The rows of some rollouts, which are computed in one pass."""

    @property
    def rows(self) -> list[TrainingRow]: ...

    @property
    def rollouts(self) -> int: ...

    @property
    def lessons(self) -> list[TrainingRow]: ...


R = TypeVar("R", bound=Rows)


@dataclass(frozen=True)
class Part:
    """What one pass computes of a planned group.

    Attributes:
        group: the group.
        rows: of some of its rollouts, or of all.
        tokens: which of the group's sampled tokens these rows have, row after row.
        lessons: of the group, that go on from what these rows begin with.
    """

    group: PlannedGroup
    rows: list[TrainingRow]
    tokens: Int[Tensor, "tokens"]
    lessons: list[TrainingRow]

    @property
    def number(self) -> int:
        """Of the group."""
        return self.group.number

    @property
    def rollouts(self) -> int:
        """Of the group: its rows keep their numbers."""
        return self.group.rollouts

    @property
    def advantages(self) -> Float[Tensor, "tokens"]:
        return self.group.advantages[self.tokens]


def parts_of(group: PlannedGroup, most_tokens: int) -> list[Part]:
    """The group in as many parts as it takes for passes of at most `most_tokens` unique tokens, or of one rollout.

    Each part computes anew what it shares with the others; so those rollouts stay together that have most in common.
    """
    everything = [*group.rows, *group.lessons]
    # Mostly all of its tokens would fit, and nobody needs to know which are unique.
    fits = sum(len(row.token_ids) for row in everything) <= most_tokens
    if fits or build_token_tree(everything).unique_tokens <= most_tokens:
        return [_part(group, list(range(len(group.rows))), group.lessons)]
    of_rollout: dict[int, list[int]] = {}
    for place, row in enumerate(group.rows):
        of_rollout.setdefault(row.rollout, []).append(place)
    # In the order of their tokens, the rollouts of a branch of the tree stand together.
    rollouts = sorted(of_rollout.values(), key=lambda places: group.rows[places[0]].token_ids)
    together: list[list[int]] = []
    for places in rollouts:
        wanted = [*together[-1], *places] if together else places
        if together and build_token_tree([group.rows[place] for place in wanted]).unique_tokens <= most_tokens:
            together[-1] = wanted
        else:
            together.append(places)
    lessons: list[list[TrainingRow]] = [[] for _ in together]
    for lesson in group.lessons:
        shared = [
            max(_common_prefix(group.rows[place].token_ids, lesson.token_ids) for place in places)
            for places in together
        ]
        lessons[shared.index(max(shared))].append(lesson)
    return [_part(group, sorted(places), own) for places, own in zip(together, lessons, strict=True)]


def _part(group: PlannedGroup, places: Sequence[int], lessons: list[TrainingRow]) -> Part:
    starts = list(accumulate((len(row.sampled_positions) for row in group.rows), initial=0))
    tokens = [token for place in places for token in range(starts[place], starts[place + 1])]
    return Part(group, [group.rows[place] for place in places], torch.tensor(tokens, dtype=torch.long), lessons)


def packs_of(groups: Sequence[R], max_tokens: int) -> list[list[R]]:
    """Groups, or parts of them, by pass, each pass of at most `max_tokens` unique tokens or of a single one.

    The largest first, each into the first pass with room: passes are then few and about equally long.
    """
    sized = [
        (build_token_tree([*group.rows, *group.lessons]).unique_tokens, index, group)
        for index, group in enumerate(groups)
    ]
    packs: list[list[R]] = []
    room: list[int] = []
    for size, _, group in sorted(sized, key=lambda entry: (-entry[0], entry[1])):
        for pack, left in enumerate(room):
            if size <= left:
                packs[pack].append(group)
                room[pack] -= size
                break
        else:
            packs.append([group])
            room.append(max_tokens - size)
    return packs


def rows_by_pass(rows: Sequence[TrainingRow], max_tokens: int) -> list[list[TrainingRow]]:
    """Rows by pass, each pass of at most `max_tokens` unique tokens or of a single row: those with the longest common
    beginnings together."""
    passes: list[list[TrainingRow]] = []
    room, before = 0, list[int]()
    for row in sorted(rows, key=lambda one: one.token_ids):
        size = len(row.token_ids) - _common_prefix(before, row.token_ids)
        if size > room or not passes:
            passes.append([])
            room, size = max_tokens, len(row.token_ids)
        passes[-1].append(row)
        room, before = room - size, row.token_ids
    return passes


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def rows_together(groups: Sequence[Rows]) -> list[TrainingRow]:
    """The rows of several groups, their rollouts numbered through."""
    rows: list[TrainingRow] = []
    before = 0
    for group in groups:
        rows += [replace(row, rollout=row.rollout + before) for row in group.rows]
        before += group.rollouts
    return rows
