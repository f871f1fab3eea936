"""`chat_template_kwargs` of a job: where it may stand, and what it may hold."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import JobSpec, parse_job

VARIABLES = {"enable_thinking": False, "reasoning_effort": "low", "budget": 512, "share": 0.5}
INNER: dict[str, Any] = {"grader": {"type": "string_check", "input": "a", "reference": "b", "operation": "eq"}}
OUTER: dict[str, Any] = {"model": "smollm2-135m", "training_file": "rows.jsonl"}


def job(inner: Any = None, *, short: bool = False, **outer: Any) -> JobSpec:
    within = INNER if inner is None else {**INNER, "chat_template_kwargs": inner}
    method: dict[str, Any] = {"method": {"type": "reinforcement", "reinforcement": within}}
    if short:
        method = {"method": "rft", "rft": within}
    return parse_job({**OUTER, **outer, **method}, folder=Path("/data"))


def test_it_stands_beside_the_model_or_in_the_method_in_either_shape() -> None:
    assert job(chat_template_kwargs=VARIABLES).chat_template_kwargs == VARIABLES
    assert job(VARIABLES).chat_template_kwargs == job(VARIABLES, short=True).chat_template_kwargs == VARIABLES
    assert job().chat_template_kwargs == {}


def test_values_keep_their_types_and_null_is_a_variable_that_is_not_set() -> None:
    found = job({"a": 1, "b": True, "c": 1.0, "d": "true", "e": None}).chat_template_kwargs
    assert found == {"a": 1, "b": True, "c": 1.0, "d": "true"}
    assert [type(value) for value in found.values()] == [int, bool, float, str]


def test_a_stored_job_has_it_again() -> None:
    stored = job(VARIABLES).model_dump(mode="json")
    assert JobSpec.model_validate(stored).chat_template_kwargs == VARIABLES
    del stored["chat_template_kwargs"]
    assert JobSpec.model_validate(stored).chat_template_kwargs == {}, "of before there were any"


@pytest.mark.parametrize(
    "given",
    [
        {"enable_thinking": [False]},
        {"enable_thinking": {"a": 1}},
        {"enable thinking": False},
        {"": False},
        {"1st": False},
        {"x" * 65: 1},
        {"a": "x" * 257},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**300},
        {f"v{number}": 1 for number in range(17)},
        ["enable_thinking"],
        "enable_thinking",
        True,
    ],
)
def test_what_is_no_object_of_few_short_scalars_is_refused_with_its_name(given: Any) -> None:
    with pytest.raises(UserError, match="chat_template_kwargs"):
        job(given)
    with pytest.raises(UserError, match="chat_template_kwargs"):
        job(chat_template_kwargs=given)
