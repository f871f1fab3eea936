"""What counts as an honest score, and how a template's failure becomes a grader's."""

import math
from typing import Any

from agentrft.data.templates import TemplateError, render_template, template_fields
from agentrft.errors import UserError
from agentrft.graders.base import GraderFailure, GraderSample


def finite_score(value: Any, *, grader: str, what: str) -> float:
    """The value as a float, if it is a finite number (booleans and numeric strings are not numbers).

    Args:
        value: what the grader computed or was answered.
        grader: the grader's name.
        what: what the value is, for the message.

    Raises:
        GraderFailure: kind "bad_answer".
    """
    try:
        return number_of(value, what)
    except ValueError as error:
        raise GraderFailure(grader, "bad_answer", str(error)) from error


def number_of(value: Any, what: str) -> float:
    """As `finite_score`, for whoever tells a failure otherwise. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = repr(value)
        raise ValueError(f"{what} must be a finite number, found {shown[:100]}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, found {number}")
    return number


def check_template(template: str, *, grader: str, field: str) -> None:
    """Refuse a malformed template when its grader is created.

    Raises:
        UserError: with the grader, the field and the position.
    """
    try:
        template_fields(template)
    except TemplateError as error:
        raise UserError(f"grader '{grader}': {field}: {error.cause}", error.remedy) from error


def render(template: str, *, grader: str, sample: GraderSample, item: dict[str, Any]) -> str:
    """Render a grader's template over a finished rollout.

    Raises:
        GraderFailure: kind "missing_key".
    """
    try:
        return render_template(template, item=item, sample=sample.as_template_value())
    except TemplateError as error:
        raise GraderFailure(grader, "missing_key", error.cause) from error
