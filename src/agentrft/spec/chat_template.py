"""Variables of a model's chat template that a user sets, such as `enable_thinking` and `reasoning_effort`."""

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr

# They go with every chat request in a header.
MOST_VARIABLES, LONGEST_TEXT, LARGEST_NUMBER = 16, 256, 2**53

# Efforts that mean no thoughts at all, where a template can switch them off, and what switches them.
NO_THOUGHTS = ("none", "minimal")
SWITCHES = ("enable_thinking", "thinking")
# The efforts of OpenAI's API, as templates that have them know them.
LEVEL = "reasoning_effort"
LEVELS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Scalar = (
    StrictBool
    | Annotated[StrictInt, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
    | Annotated[StrictFloat, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]
    | Annotated[StrictStr, Field(max_length=LONGEST_TEXT)]
)
# Of a request: null takes away what the model has by default, so that the template's own default holds.
GivenVariables = Annotated[dict[VariableName, Scalar | None], Field(max_length=MOST_VARIABLES)]


def without_nulls(given: dict[str, bool | int | float | str | None]) -> dict[str, bool | int | float | str]:
    """The variables that have a value."""
    return {name: value for name, value in given.items() if value is not None}


# Of a job: null is a variable that is not set.
TemplateVariables = Annotated[GivenVariables, AfterValidator(without_nulls)]


def variables_of_effort(effort: str, known: Collection[str]) -> dict[str, bool | int | float | str] | None:
    """What stands for a `reasoning_effort` of OpenAI's API in a template with these variables; None if nothing does."""
    switch = next((name for name in SWITCHES if name in known), None)
    if effort in NO_THOUGHTS and switch is not None:
        return {switch: False}
    if effort in LEVELS and LEVEL in known:
        return {LEVEL: LEVELS[effort]}
    return None
