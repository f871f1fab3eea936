"""What is accepted is said of what was meant: the member of a union that the `type` names, at any depth."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import Hyperparameters, JobSpec, parse_job

CHECK = {"type": "string_check", "input": "a", "reference": "b", "operation": "eq"}
PYTHON = {"type": "python", "source": "def grade(s, i): return 1"}
JUDGE = {"type": "score_model", "model": "judge", "input": [{"role": "user", "content": "Well?"}]}
SEARCH = {"name": "search", "server_url": "http://127.0.0.1/"}
OF_PYTHON = "image_tag, isolated, name, pass_threshold, source, source_file, timeout_s, trusted, type."
OF_CHECK = "input, name, operation, reference, type."


def multi(**graders: Any) -> dict[str, Any]:
    return {"type": "multi", "graders": graders, "calculate_output": "a"}


def job(**inner: Any) -> dict[str, Any]:
    method = {"type": "reinforcement", "reinforcement": {"grader": CHECK, **inner}}
    return {"model": "m", "training_file": "rows.jsonl", "method": method}


def refusal(raw: dict[str, Any], ignored: list[str] | None = None) -> str:
    with pytest.raises(UserError) as refused:
        parse_job(raw, folder=Path("/nowhere"), ignored=ignored)
    return refused.value.cause


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ({"grader": {**PYTHON, "foo": 1}}, f"grader.python: unknown field 'foo'. Accepted here: {OF_PYTHON}"),
        ({"grader": {**CHECK, "foo": 1}}, f"grader.string_check: unknown field 'foo'. Accepted here: {OF_CHECK}"),
        ({"grader": multi(a={**PYTHON, "range": [0, 1]})}, f"'range'. Accepted here: {OF_PYTHON}"),
        ({"grader": multi(a=[{**CHECK, "name": "a"}, 1])}, "grader.multi.graders.a"),
        (
            {"grader": {**multi(a=CHECK), "foo": 1}},
            "calculate_output, graders, invalid_grade, name, normalise, pass_threshold, type.",
        ),
        (
            {"grader": multi(a={**JUDGE, "sampling_params": {"temp": 1}})},
            "'temp'. Accepted here: max_completions",
        ),
        (
            {"grader": {"source": "x"}},
            "grader: type: missing; expected one of 'string_check', 'text_similarity', 'python'",
        ),
        ({"grader": multi(a={"source": "x"})}, "graders.a: type: missing; expected one of 'string_check'"),
        ({"grader": {"type": "pyhton"}}, "grader: type: expected one of 'string_check'"),
        (
            {"holdout_graders": {"h": {**PYTHON, "foo": 1}}},
            f"h.python: unknown field 'foo'. Accepted here: {OF_PYTHON}",
        ),
        ({"tools": [{**SEARCH, "foo": 1}]}, "tools.0.http: unknown field 'foo'. Accepted here: cache, description"),
        (
            {"tools": [{**SEARCH, "type": "function", "foo": 1}]},
            "tools.0.http: unknown field 'foo'. Accepted here: cache",
        ),
        (
            {"tools": [{"type": "python", "function": "a:b", "foo": 1}]},
            "Accepted here: cache, description, example, folder",
        ),
        (
            {"on_rollout_start": {"url": "http://a/", "foo": 1}},
            "Accepted here: headers, max_concurrency, timeout_s, url.",
        ),
    ],
)
def test_the_hint_is_of_what_was_meant(inner: dict[str, Any], said: str) -> None:
    assert said in refusal(job(**inner))


def test_a_hint_of_hyperparameters_has_what_the_api_takes_beside_them() -> None:
    wrong = job(hyperparameters={"effort": "high"})
    assert "reasoning_effort, " in refusal(wrong, ignored=[])
    assert "reasoning_effort" not in refusal(wrong), "a job file does not take it"
    meant = job(hyperparameters={"reasoning_efort": "high"})
    assert "did you mean 'reasoning_effort'?" in refusal(meant, ignored=[])
    assert "reasoning_effort" not in Hyperparameters.model_fields


def test_the_grader_of_a_job_says_from_where_it_passes() -> None:
    base = {"model": "m", "training_file": "rows.jsonl"}
    for grader in ({**PYTHON, "pass_threshold": 0.5}, {**multi(a=CHECK), "pass_threshold": 0.5}):
        assert JobSpec.model_validate({**base, "grader": grader}).pass_threshold == 0.5


def test_null_is_as_if_left_out_and_an_unknown_null_is_still_unknown() -> None:
    spec = JobSpec.model_validate(
        {
            "model": "m",
            "training_file": "r",
            "grader": {**JUDGE, "range": None, "sampling_params": None, "headers": None},
        }
    )
    assert spec.grader.type == "score_model" and spec.grader.range == (0.0, 1.0)
    assert "unknown field 'foo'" in refusal(job(grader={**JUDGE, "foo": None}))
