"""A step's metrics, as a metric event tells them of each grader."""

from typing import Any

from agentrft.server.objects.metrics import event_data

TWO = [("right", "string_check"), ("style", "score_model")]
PANELS = {
    "right": {"latency_mean_s": 0.1, "usage": {}, "faults": {}},
    "style": {"latency_mean_s": 0.7, "usage": {"total_tokens": 12}, "faults": {"bad_answer": 3}},
}
STEP: dict[str, Any] = {
    "reward_mean": 0.5,
    "rollouts": 4,
    "outcomes": {"graded": 4},
    "sub_scores": {"right": 1.0, "style": 0.25},
    "judge_tokens": {"total_tokens": 12},
    "grader_latency_mean_s": 0.8,
    "faults": {"grader:bad_answer": 3},
}


def told(train: dict[str, Any] | None, validation: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"step": 1, "train": train, "validation": validation}


def test_scores_tokens_errors_and_latency_stand_under_the_grader_that_they_are_of() -> None:
    validation = {**STEP, "graders": {"right": {"latency_mean_s": 0.2, "usage": {}, "faults": {"timeout": 1}}}}
    data = event_data(told({**STEP, "graders": PANELS}, validation), 4, TWO)
    assert [one["train_reward_mean"] for one in data["scores"]["graders"]] == [1.0, 0.25]
    assert data["usage"]["graders"] == [{"name": "right"}, {"name": "style", "total_tokens": 12}]
    assert data["errors"]["graders"] == [
        {"name": "right", "valid_timeout_error_count": 1},
        {"name": "style", "train_bad_answer_error_count": 3},
    ]
    assert data["timing"]["graders"] == [
        {"name": "right", "train_execution_latency_mean": 0.1, "valid_execution_latency_mean": 0.2},
        {"name": "style", "train_execution_latency_mean": 0.7, "valid_execution_latency_mean": None},
    ]


def test_a_formula_without_a_value_is_told_under_the_multi_graders_name() -> None:
    panels = {**PANELS, "multi": {"latency_mean_s": 0.0, "usage": {}, "faults": {"formula": 2}}}
    data = event_data(told({**STEP, "graders": panels}), 4, TWO)
    assert data["errors"]["graders"][2] == {"name": "multi", "train_formula_error_count": 2}
    assert len(data["usage"]["graders"]) == len(data["scores"]["graders"]) == 2


def test_a_step_of_before_graders_were_told_apart_has_its_sums_under_a_single_grader_and_else_under_none() -> None:
    single = event_data(told(STEP), 4, TWO[1:])
    assert single["usage"]["graders"] == [{"name": "style", "total_tokens": 12}]
    assert single["errors"]["graders"] == [{"name": "style", "train_bad_answer_error_count": 3}]
    assert single["timing"]["graders"][0]["train_execution_latency_mean"] == 0.8
    several = event_data(told(STEP), 4, TWO)
    assert several["usage"]["graders"] == [{"name": "right"}, {"name": "style"}]
    assert several["model_graders_token_usage"] == {"total_tokens": 12}
