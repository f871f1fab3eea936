"""Variables of a model's chat template that a user sets, such as `enable_thinking` and `reasoning_effort`."""

from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr

# They go with every chat request in a header.
MOST_VARIABLES, LONGEST_TEXT, LARGEST_NUMBER = 16, 256, 2**53

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
