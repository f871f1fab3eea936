"""From rollout records and demonstrations to the learner's input."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from torch import Tensor

from agentrft.chat import ChatCodec
from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.plan import PlannedGroup, UpdatePlan
from agentrft.learner.update_metrics import SeenTokens
from agentrft.rollout.record import Rollout, Turn

TOKEN_DIGITS = 4
NOTHING: Mapping[str, float] = MappingProxyType({})
# Kinds of failure of a rollout that might have gone on.
WANT_OF_TOKENS = ("max_tokens", "context")


def training_rows(rollout: Rollout, index: int) -> list[TrainingRow]:
    """The token rows of one rollout, exactly as they were sampled: one row, and one more per fork."""
    rows = []
    ends = [*rollout.row_starts[1:], len(rollout.turns)]
    for start, end in zip(rollout.row_starts, ends, strict=True):
        ids: list[int] = []
        positions: list[int] = []
        logprobs: list[float] = []
        turns: list[int] = []
        for number, turn in enumerate(rollout.turns[start:end], start=start):
            ids += turn.prompt_ids
            positions += range(len(ids), len(ids) + len(turn.sampled_ids))
            ids += turn.sampled_ids
            logprobs += turn.sampled_logprobs
            turns += [number] * len(turn.sampled_ids)
        if positions:
            rows.append(TrainingRow(ids, positions, logprobs, index, turns))
    return rows


def demonstrated_rows(
    codec: ChatCodec, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], index: int = 0
) -> list[TrainingRow]:
    """The rows of one demonstration: what is learned are the tokens that the agent would have sampled.

    Args:
        index: of its rollout, were it one.
    """
    rows: list[TrainingRow] = []
    for ids, mask in codec.training_rows(messages, tools):
        positions = [position for position, sampled in enumerate(mask) if sampled and position > 0]
        rows.append(TrainingRow(ids, positions, [0.0] * len(positions), index))
    return rows


def training_group(
    rollouts: Sequence[Rollout],
    weights: Mapping[str, float] = NOTHING,
    lessons: Sequence[TrainingRow] = (),
) -> TrainingGroup:
    """The learner's group of rollouts that all have a reward.

    Args:
        weights: of the sub-scores that are compared apart. A rollout that lacks them, since the agent failed, has of
            each what is worst in its group: failing never pays.
        lessons: see `TrainingGroup`.

    Raises:
        ValueError: one of them has none; an infrastructure failure must never get here.
    """
    rows: list[TrainingRow] = []
    rewards: list[float] = []
    for index, rollout in enumerate(rollouts):
        if rollout.reward is None or rollout.outcome == "infra_failed":
            raise ValueError(f"{rollout.trace_id} has no reward")
        rewards.append(rollout.reward)
        rows += training_rows(rollout, index)
    return TrainingGroup(
        rows,
        rewards,
        _sub_scores(rollouts, weights),
        [rollout.outcome for rollout in rollouts],
        [rollout.failure_kind in WANT_OF_TOKENS for rollout in rollouts],
        list(lessons),
    )


def note_advantages(groups: Sequence[Sequence[Rollout]], plan: UpdatePlan) -> None:
    """Write into the records what the update gives each of their sampled tokens.

    Args:
        groups: the rollouts of each group that the plan was made of.
    """
    for planned in plan.groups:
        given = planned.advantages.tolist()
        for turn, part in _turns(groups, planned):
            values = given[part]
            # With most algorithms all tokens of a turn get the same.
            turn.advantages = values if len(set(values)) > 1 else values[:1]


def note_tokens(groups: Sequence[Sequence[Rollout]], plan: UpdatePlan, seen: Mapping[int, SeenTokens]) -> None:
    """Write into the records how the update found each of their sampled tokens.

    Args:
        groups: as in `note_advantages`.
        seen: by the number of the planned group.
    """
    for planned in plan.groups:
        found = seen.get(planned.number)
        if found is None:
            continue
        entropies, moved = _rounded(found.entropy), None if found.moved is None else _rounded(found.moved)
        for turn, part in _turns(groups, planned):
            turn.entropies = entropies[part]
            turn.moved = [] if moved is None else moved[part]


def _turns(groups: Sequence[Sequence[Rollout]], planned: PlannedGroup) -> Iterator[tuple[Turn, slice]]:
    """The turns of a planned group, and where their sampled tokens are among all of the group's."""
    rollouts, start = [groups[planned.place][number] for number in planned.members], 0
    for row in planned.rows:
        for number, tokens in groupby(row.turn_of_each):
            end = start + len(list(tokens))
            yield rollouts[row.rollout].turns[number], slice(start, end)
            start = end


def _rounded(values: Tensor) -> list[float]:
    """As many digits as a page shows: records are kept for every token."""
    return [round(value, TOKEN_DIGITS) for value in values.tolist()]


def _sub_scores(rollouts: Sequence[Rollout], weights: Mapping[str, float]) -> list[dict[str, float]]:
    found = [dict(rollout.grade.sub_scores) if rollout.grade is not None else {} for rollout in rollouts]
    for name, weight in weights.items():
        known = [scores[name] for scores in found if name in scores]
        for scores in found:
            if known and name not in scores:
                scores[name] = min(known) if weight >= 0 else max(known)
    return found
