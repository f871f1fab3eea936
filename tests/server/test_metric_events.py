"""A step's metrics, as a metric event tells them of each grader."""

from typing import Any

import pytest

from agentrft.server.objects.grader_panels import GraderName, grader_names
from agentrft.server.objects.metrics import event_data, event_message

TWO = [GraderName("right", "string_check"), GraderName("style", "score_model", "judge-1")]
PANELS = {
    "right": {"latency_mean_s": 0.1, "usage": {}, "faults": {"missing_sample_key": 3}, "grades": 4, "unparsed": 1},
    "style": {
        "latency_mean_s": 0.7,
        "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12},
        "faults": {"bad_answer": 2},
        "grades": 2,
        "unparsed": 0,
    },
}
STEP: dict[str, Any] = {
    "reward_mean": 0.5,
    "rollouts": 4,
    "outcomes": {"graded": 3, "model_failed": 1},
    "sub_scores": {"right": 1.0, "style": 0.25},
    "judge_tokens": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12},
    "grader_latency_mean_s": 0.8,
    "faults": {"grader:bad_answer": 3},
}
# What a hosted event has, by place. Lists of graders have one entry for each; `errors` has every kind of it.
HOSTED = {
    "": "step total_steps train_mean_reward full_valid_mean_reward full_valid_mean_parse_error reasoning_tokens_mean "
    "valid_reasoning_tokens_mean completion_tokens_mean mean_unresponsive_rewards model_graders_token_usage scores "
    "usage errors timing",
    "scores": "train_reward_mean valid_reward_mean graders",
    "scores.graders": "name type train_reward_mean valid_reward_mean",
    "usage.graders": "name type model train_prompt_tokens_mean train_prompt_tokens_count train_completion_tokens_mean "
    "train_completion_tokens_count valid_prompt_tokens_mean valid_prompt_tokens_count valid_completion_tokens_mean "
    "valid_completion_tokens_count",
    "usage.samples": "train_reasoning_tokens_mean train_reasoning_tokens_count valid_reasoning_tokens_mean "
    "valid_reasoning_tokens_count",
    "model_graders_token_usage.judge-1": "train_cached_tokens train_prompt_tokens train_completion_tokens "
    "eval_cached_tokens eval_prompt_tokens eval_completion_tokens",
    "timing.step": "sampling training eval full_iteration",
    "timing.graders": "name type train_execution_latency_mean valid_execution_latency_mean",
}
ERRORS = (
    "other_error sample_parse_error invalid_variable_error unresponsive_reward_error truncated_observation_error "
    "formula_parse_error python_grader_server_error python_grader_runtime_error model_grader_server_error "
    "model_grader_refusal_error model_grader_parse_error"
)


def told(train: dict[str, Any] | None, validation: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"step": 1, "train": train, "validation": validation}


def counted(grader: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in grader.items() if name not in ("name", "type") and value}


@pytest.mark.parametrize(
    ("train", "validation"), [({**STEP, "graders": PANELS}, {**STEP, "graders": PANELS}), (STEP, None), (None, STEP)]
)
def test_an_event_has_every_hosted_key_whichever_phases_its_step_has(train: Any, validation: Any) -> None:
    data = event_data(told(train, validation), 20, TWO)
    for place, keys in HOSTED.items():
        found: Any = data
        for part in filter(None, place.split(".")):
            found = found[part]
        for one in found if isinstance(found, list) else [found]:
            assert set(keys.split()) <= set(one), place
    assert [one["name"] for one in data["errors"]["graders"]] == ["right", "style"]
    for grader in data["errors"]["graders"]:
        named = {
            f"{p}_{kind}_{what}" for p in ("train", "valid") for kind in ERRORS.split() for what in ("mean", "count")
        }
        assert set(grader) == {"name", "type"} | named
        assert all(isinstance(grader[name], int | float) for name in named)


def test_a_message_has_the_hosted_form() -> None:
    train, valid = {**STEP, "reward_mean": 0.421}, {**STEP, "reward_mean": 0.675, "parse_error_share": 0.0}
    assert event_message({**told(train, valid), "step": 10}, 20) == (
        "Step 10/20 , train mean reward=0.42, full validation mean reward=0.68, full validation mean parse error=0.00"
    )
    assert event_message(told(train), 20) == "Step 1/20 , train mean reward=0.42"
    assert event_message({**told(None, valid), "step": 0}, 20) == (
        "Step 0/20 , full validation mean reward=0.68, full validation mean parse error=0.00"
    )


def test_scores_tokens_errors_and_latency_stand_under_the_grader_that_they_are_of() -> None:
    validation = {**STEP, "graders": {"right": {"latency_mean_s": 0.2, "usage": {}, "faults": {"timeout": 1}}}}
    data = event_data(told({**STEP, "graders": PANELS}, validation), 4, TWO)
    assert [one["train_reward_mean"] for one in data["scores"]["graders"]] == [1.0, 0.25]
    right, style = data["usage"]["graders"]
    assert (right["model"], right["train_prompt_tokens_count"]) == (None, 0)
    assert (style["model"], style["train_prompt_tokens_count"], style["train_prompt_tokens_mean"]) == (
        "judge-1",
        8,
        4.0,
    )
    right, style = data["errors"]["graders"]
    assert counted(right) == {
        "train_sample_parse_error_count": 1,
        "train_sample_parse_error_mean": 0.25,
        "train_invalid_variable_error_count": 2,
        "train_invalid_variable_error_mean": 0.5,
        "valid_other_error_count": 1,
        "valid_other_error_mean": 0.25,
    }
    assert counted(style) == {"train_model_grader_parse_error_count": 2, "train_model_grader_parse_error_mean": 0.5}
    assert data["timing"]["graders"] == [
        {
            "name": "right",
            "type": "string_check",
            "train_execution_latency_mean": 0.1,
            "valid_execution_latency_mean": 0.2,
        },
        {
            "name": "style",
            "type": "score_model",
            "train_execution_latency_mean": 0.7,
            "valid_execution_latency_mean": None,
        },
    ]


def test_what_judges_took_is_told_by_model_also_where_two_ask_the_same_one() -> None:
    three = [*TWO, GraderName("tone", "label_model", "judge-1")]
    panels = {**PANELS, "tone": {"usage": {"prompt_tokens": 2}, "faults": {}}}
    usage = event_data(told({**STEP, "graders": panels}, {**STEP, "graders": PANELS}), 4, three)
    assert usage["model_graders_token_usage"] == {
        "judge-1": {
            "train_cached_tokens": 0,
            "train_prompt_tokens": 10,
            "train_completion_tokens": 4,
            "eval_cached_tokens": 0,
            "eval_prompt_tokens": 8,
            "eval_completion_tokens": 4,
        }
    }


def test_reasoning_tokens_are_those_that_were_counted() -> None:
    step = {**STEP, "reasoning_tokens_mean": 2.5, "agent_usage": {"reasoning_tokens": 10}}
    data = event_data(told(step, STEP), 4, TWO)
    assert (data["reasoning_tokens_mean"], data["valid_reasoning_tokens_mean"]) == (2.5, 0.0)
    assert data["usage"]["samples"]["train_reasoning_tokens_count"] == 10


def test_a_formula_without_a_value_is_told_under_the_multi_graders_name() -> None:
    panels = {**PANELS, "multi": {"latency_mean_s": 0.0, "usage": {}, "faults": {"formula": 2}}}
    data = event_data(told({**STEP, "graders": panels}), 4, TWO)
    third = data["errors"]["graders"][2]
    assert (third["name"], third["type"], third["train_formula_parse_error_count"]) == ("multi", "multi", 2)
    assert len(data["usage"]["graders"]) == len(data["scores"]["graders"]) == 2


def test_a_step_of_before_graders_were_told_apart_has_its_sums_under_a_single_grader_and_else_under_none() -> None:
    single = event_data(told(STEP), 4, TWO[1:])
    assert single["usage"]["graders"][0]["train_prompt_tokens_count"] == 8
    assert single["errors"]["graders"][0]["train_model_grader_parse_error_count"] == 3
    assert single["timing"]["graders"][0]["train_execution_latency_mean"] == 0.8
    several = event_data(told(STEP), 4, TWO)
    assert [one["train_prompt_tokens_count"] for one in several["usage"]["graders"]] == [0, 0]


def test_the_graders_of_a_stored_job_are_named_with_the_models_of_judges() -> None:
    judge = {"type": "score_model", "name": "style", "model": "judge-1"}
    check = {"type": "string_check", "name": "right"}
    assert grader_names({"type": "multi", "name": "m", "graders": {"right": check, "style": judge}}) == TWO
    assert grader_names(judge) == TWO[1:] and grader_names("damaged") == [GraderName("None", "None")]
