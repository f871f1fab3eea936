"""Which variables of its chat template a model answers a request with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrft.spec.chat_template import variables_of_effort


@dataclass(frozen=True)
class TemplateWish:
    """What a request says of it.

    Attributes:
        given: `chat_template_kwargs`; null takes away what the model has by default.
        effort: how much the model should think; empty where the request does not say. `effort_field` is the field.
    """

    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    effort: str = ""
    effort_field: str = "reasoning_effort"


@dataclass(frozen=True)
class ChosenVariables:
    """`values` by name; `honours_effort` is whether the template has something for the effort that was asked for."""

    values: dict[str, Any]
    honours_effort: bool


def chosen_variables(defaults: Mapping[str, Any], wish: TemplateWish, known: list[str]) -> ChosenVariables:
    """The model's own, then what stands for the effort, then those that the request gives by name.

    Args:
        defaults: that the model was trained with.
        known: the template's variables.
    """
    of_effort = variables_of_effort(wish.effort, known)
    merged = {**defaults, **(of_effort or {}), **wish.given}
    return ChosenVariables({name: value for name, value in merged.items() if value is not None}, of_effort is not None)
