"""Several groups in one pass: larger products, and what their prompts have in common is computed once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from agentrft.learner.group import TrainingRow
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


def packs_of(groups: Sequence[R], max_tokens: int) -> list[list[R]]:
    """Groups by pass, each pass of at most `max_tokens` unique tokens or of a single group.

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
