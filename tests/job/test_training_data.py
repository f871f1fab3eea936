"""From rollouts to the learner's groups: turns, and what failed rollouts have of rewards that are compared apart."""

import random

import pytest
import torch

from agentrft.graders import Grade
from agentrft.job.training_data import note_advantages, note_tokens, training_group
from agentrft.learner import UpdateOptions, UpdatePlan
from agentrft.learner.advantages import planned_groups
from agentrft.learner.algorithms import ALGORITHMS
from agentrft.learner.update_metrics import SeenTokens
from agentrft.report.why.advantages import advantages, by_rewards
from agentrft.rollout import Rollout
from agentrft.rollout.record import Turn


def rollout(index: int, sub_scores: dict[str, float] | None, failure: str | None = None) -> Rollout:
    turns = [Turn([1, 2], [3, 4], [-1.0, -1.0], "stop", 0), Turn([5], [6], [-2.0], "stop", 0)]
    grade = None if sub_scores is None else Grade(0.5, sub_scores=sub_scores)
    outcome = "graded" if failure is None else "model_failed"
    return Rollout(f"t{index}", 1, "a", 1, index, outcome, turns, [], grade=grade, reward=0.5, failure_kind=failure)


def test_tokens_know_their_turn_and_rollouts_how_they_ended() -> None:
    group = training_group([rollout(0, {}), rollout(1, None, "max_tokens"), rollout(2, None, "no_answer")])
    assert group.rows[0].token_ids == [1, 2, 3, 4, 5, 6]
    assert group.rows[0].turns == [0, 0, 1]
    assert group.outcomes == ["graded", "model_failed", "model_failed"]
    assert group.truncated == [False, True, False]


def test_a_rollout_that_failed_has_the_worst_of_each_part() -> None:
    rollouts = [rollout(0, {"right": 1.0, "calls": 3.0}), rollout(1, {"right": 0.5, "calls": 1.0})]
    group = training_group([*rollouts, rollout(2, None, "max_turns")], {"right": 1.0, "calls": -0.1})
    assert group.sub_scores[2] == {"right": 0.5, "calls": 3.0}
    nothing_known = training_group([rollout(0, None, "max_turns"), rollout(1, None, "max_turns")], {"right": 1.0})
    assert nothing_known.sub_scores == [{}, {}]


def planned(groups: list[list[Rollout]], algorithm: str = "grpo", **options: object) -> UpdatePlan:
    taught = planned_groups(
        [training_group(group) for group in groups],
        ALGORITHMS[algorithm],
        UpdateOptions(**options),  # type: ignore[arg-type]
    )
    return UpdatePlan.of(taught, minibatches=1, epochs=1, order=random.Random(0))


def rewarded(sample: str, *rewards: float) -> list[Rollout]:
    """A group of rollouts of two turns; those of a negative reward were cut off."""
    group = [rollout(index, {}, "max_tokens" if reward < 0 else None) for index, reward in enumerate(rewards)]
    for one, reward in zip(group, rewards, strict=True):
        one.reward, one.sample_id, one.trace_id = reward, sample, f"{sample}-{one.index}"
    return group


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_records_say_what_the_update_paid_and_what_is_worked_out_without_them_is_the_same(algorithm: str) -> None:
    groups = [rewarded("alike", 1.0, 1.0, 1.0), rewarded("differs", 0.0, 0.25, 1.0, 1.0)]
    everything = [one for group in groups for one in group]
    worked_out = advantages(everything, phase="train", algorithm=algorithm)

    plan = planned(groups, algorithm)
    note_advantages(groups, plan)

    (group,) = plan.groups
    assert [turn.advantages for turn in groups[0][0].turns] == [[], []]
    assert [one.advantage for one in groups[1]] == pytest.approx(group.advantages.tolist()[::3])
    assert all(len(turn.advantages) == 1 for one in groups[1] for turn in one.turns)
    recorded = advantages(everything, phase="train", algorithm=algorithm)
    assert [paid for paid, _ in recorded] == pytest.approx([paid for paid, _ in worked_out], rel=1e-5)
    assert [left_out for _, left_out in recorded] == ["alike"] * 3 + [None] * 4
    assert by_rewards(algorithm, [0.0, 0.25, 1.0, 1.0]) == pytest.approx([one.advantage for one in groups[1]], rel=1e-5)


def test_rollouts_that_an_update_leaves_out_of_a_group_have_none_and_the_others_their_own() -> None:
    groups = [rewarded("cut", -1.0, 0.0, 1.0)]
    note_advantages(groups, planned(groups, masks_overlong=True))
    paid = advantages(groups[0], phase="train", algorithm="grpo")
    assert (
        paid[0] == (0.0, "cut off") and paid[1][0] == pytest.approx(-(paid[2][0] or 0.0)) and (paid[2][0] or 0.0) > 0.5
    )


def test_what_is_paid_turn_by_turn_is_recorded_so() -> None:
    groups = [rewarded("turns", 0.0, 1.0)]
    groups[0][1].turns[0].sampled_ids = [7, 8]
    note_advantages(groups, planned(groups, advantage_by="turn"))
    # Both second turns go on from a place of their own, where nothing is to be compared.
    assert [turn.advantages for turn in groups[0][1].turns] == [pytest.approx([0.7070], abs=1e-3), [0.0]]
    assert Rollout.from_dict(groups[0][1].as_dict()).advantage == pytest.approx(0.7070 * 2 / 3, abs=1e-3)


@pytest.mark.parametrize("phase", ["validation", "test", "warm_rollouts"])
def test_what_is_measured_and_not_trained_on_has_no_advantage(phase: str) -> None:
    assert advantages(rewarded("a", 0.0, 1.0), phase=phase, algorithm="grpo") == [(None, None)] * 2


def test_records_say_how_the_update_found_each_token_where_it_looked() -> None:
    groups = [rewarded("alike", 1.0, 1.0), rewarded("differs", 0.0, 1.0), rewarded("unlooked", 0.0, 1.0)]
    plan = planned(groups)
    differs, unlooked = plan.groups
    tokens = torch.arange(6) / 8
    note_tokens(groups, plan, {differs.number: SeenTokens(tokens, -tokens), unlooked.number: SeenTokens(tokens, None)})
    assert [turn.entropies for one in groups[1] for turn in one.turns] == [[0, 0.125], [0.25], [0.375, 0.5], [0.625]]
    assert [turn.moved for turn in groups[1][1].turns] == [[-0.375, -0.5], [-0.625]]
    assert groups[2][0].turns[0].entropies == [0, 0.125] and groups[2][0].turns[0].moved == []
    assert groups[0][0].turns[0].entropies == []
    again = Rollout.from_dict(groups[1][0].as_dict())
    assert again.turns == groups[1][0].turns
