"""What counts as an honest score, and what a grader does where a template has no value."""

import math
import numbers
import time
from collections.abc import Sequence
from typing import Any

from agentrft.data.templates import (
    MissingSampleValue,
    TemplateError,
    render_template,
    template_references,
)
from agentrft.errors import UserError
from agentrft.graders.base import MISSING_SAMPLE_KEY, Grade, GraderFailure, GraderSample
from agentrft.graders.sample_shape import never_there
from agentrft.spec.graders import MAX_SCORE


def finite_score(value: Any, *, grader: str, what: str) -> float:
    """The value as a float, if it is a number up to `MAX_SCORE` or a truth value, which counts 1 or 0. Numeric strings
    are not.

    Args:
        value: what the grader computed or was answered.
        grader: the grader's name.
        what: what the value is, for the message.

    Raises:
        GraderFailure: kind "bad_answer".
    """
    try:
        return float(value) if isinstance(value, bool) else number_of(value, what)
    except ValueError as error:
        raise GraderFailure(grader, "bad_answer", str(error)) from error


def number_of(value: Any, what: str) -> float:
    """The value as a float, if it is a finite number of at most `MAX_SCORE` either way; for judges, whose `true` is no
    answer to how good something is.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        shown = repr(value)
        raise ValueError(f"{what} must be a finite number, found {shown[:100]}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, found {number}")
    if abs(number) > MAX_SCORE:
        raise ValueError(f"{what} must lie between -{MAX_SCORE:.0f} and {MAX_SCORE:.0f}, found {number:g}")
    return number


def check_template(template: str, *, grader: str, field: str) -> None:
    """Refuse a template that is malformed, or reads what no rollout has, when its grader is created.

    Raises:
        UserError: with the grader, the field and the position.
    """
    try:
        references = template_references(template)
    except TemplateError as error:
        raise UserError(f"grader '{grader}': {field}: {error.cause}", error.remedy) from error
    for reference in references:
        problem = never_there(reference) if reference.root == "sample" else None
        if problem is not None:
            raise UserError(
                f"grader '{grader}': {field}: {reference.text()}: {problem}", "Correct the reference in the template."
            )


def render_all(templates: Sequence[str], *, grader: str, sample: GraderSample, item: dict[str, Any]) -> list[str]:
    """Render a grader's templates over a finished rollout.

    Raises:
        GraderFailure: kind "missing_key": the row lacks what one of them reads.
        MissingSampleValue: the rollout does, and the row has all; then the grade is `lowest_grade`.
    """
    value = sample.as_template_value()
    texts: list[str] = []
    missing: MissingSampleValue | None = None
    for template in templates:
        try:
            texts.append(render_template(template, item=item, sample=value))
        except MissingSampleValue as error:
            missing = missing or error
        except TemplateError as error:
            raise GraderFailure(grader, "missing_key", error.cause) from error
    if missing is not None:
        raise missing
    return texts


def lowest_grade(lowest: float, missing: MissingSampleValue, *, started: float) -> Grade:
    """The grade of a rollout that lacks what its grader reads of it: the agent's fault, and the lowest score.

    Args:
        lowest: of the grader's range.
        started: by `time.perf_counter`, when grading began.
    """
    return Grade(
        score=lowest,
        reason=f"lowest score, because the rollout lacks what the grader reads: {missing.cause}",
        faults={MISSING_SAMPLE_KEY: 1},
        missing=[missing.reference],
        latency_s=time.perf_counter() - started,
    )
