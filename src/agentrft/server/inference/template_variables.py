"""Which variables of its chat template a model answers a request with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Efforts that mean no thoughts at all, where a template can switch them off, and what switches them.
NO_THOUGHTS = ("none", "minimal")
SWITCHES = ("enable_thinking", "thinking")
# The efforts of OpenAI's API, as templates that have them know them.
LEVEL = "reasoning_effort"
LEVELS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}


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
    of_effort = _of_effort(wish.effort, known)
    merged = {**defaults, **(of_effort or {}), **wish.given}
    return ChosenVariables({name: value for name, value in merged.items() if value is not None}, of_effort is not None)


def _of_effort(effort: str, known: list[str]) -> dict[str, Any] | None:
    switch = next((name for name in SWITCHES if name in known), None)
    if effort in NO_THOUGHTS and switch is not None:
        return {switch: False}
    if effort in LEVELS and LEVEL in known:
        return {LEVEL: LEVELS[effort]}
    return None
