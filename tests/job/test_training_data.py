"""From rollouts to the learner's groups: turns, and what failed rollouts have of rewards that are compared apart."""

from agentrft.graders import Grade
from agentrft.job.training_data import training_group
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
