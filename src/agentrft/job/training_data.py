"""From rollout records to the learner's input."""

from collections.abc import Sequence

from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.rollout.record import Rollout

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


def training_group(rollouts: Sequence[Rollout]) -> TrainingGroup:
    """The learner's group of rollouts that all have a reward.

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
        [dict(rollout.grade.sub_scores) if rollout.grade is not None else {} for rollout in rollouts],
        [rollout.outcome for rollout in rollouts],
        [rollout.failure_kind in WANT_OF_TOKENS for rollout in rollouts],
    )
