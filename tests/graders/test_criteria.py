"""Several graders of the same answer, each with a result of its own."""

import asyncio
from typing import Any

import pytest
from pydantic import TypeAdapter

from agentrft.graders import GraderFailure, given_sample
from agentrft.graders.criteria import (
    CriteriaGrader,
    Criterion,
    CriterionResult,
    failed_results,
    lowest_mean,
)
from agentrft.spec import GraderSpec

SPECS: TypeAdapter[Any] = TypeAdapter(GraderSpec)
RIGHT = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "{{ item.word }}", "operation": "eq"}
NEAR = {
    "type": "text_similarity",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.5,
}
BROKEN = {"type": "python", "trusted": True, "source": "def grade(sample, item):\n    return 1 / 0"}


def criteria(**specs: dict[str, Any]) -> list[Criterion]:
    return [Criterion(name, SPECS.validate_python(spec)) for name, spec in specs.items()]


def graded(given: list[Criterion], answer: str) -> tuple[Any, list[CriterionResult]]:
    """The grade, or the failure, and the results that were heard."""
    heard: dict[str, list[CriterionResult]] = {}

    async def grade() -> Any:
        grader = CriteriaGrader(given, heard.__setitem__)
        try:
            return await grader.grade(given_sample(answer), item={"word": "stone"}, trace_id="t")
        except GraderFailure as failure:
            return failure
        finally:
            await grader.close()

    return asyncio.run(grade()), heard["t"]


def test_the_grade_is_the_mean_and_each_passes_by_its_own_threshold() -> None:
    grade, results = graded(criteria(right=RIGHT, near=NEAR), "stones")
    assert grade.score == pytest.approx((0 + 10 / 11) / 2)
    assert grade.sub_scores == {"right": 0.0, "near": results[1].score}
    assert [one.passed for one in results] == [False, True]


def test_one_that_fails_has_no_score_and_the_others_have_theirs() -> None:
    failure, results = graded(criteria(broken=BROKEN, right=RIGHT), "stone")
    assert isinstance(failure, GraderFailure) and failure.grader == "broken"
    assert set(failure.uses) == {"broken", "right"}
    assert [one.score for one in results] == [None, 1.0]
    assert results[0].failure is not None and "ZeroDivisionError" in results[0].failure


def test_where_the_agent_failed_each_gives_its_lowest() -> None:
    judge = {"type": "score_model", "model": "m", "range": [-2, 2], "input": [{"role": "user", "content": "x"}]}
    both = criteria(right=RIGHT, judge=judge)
    assert [one.score for one in failed_results(both, "max_tokens")] == [0.0, -2.0]
    assert lowest_mean(both) == -1.0
    assert lowest_mean(criteria(right=RIGHT, broken=BROKEN)) is None
