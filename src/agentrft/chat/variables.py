"""The variables of a tokenizer's chat template: what a job sets must be among them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentrft.errors import UserError
from agentrft.template_variables import template_variables

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def template_text(tokenizer: "PreTrainedTokenizerFast") -> str | None:
    """The template that conversations with tools are rendered with; None where the tokenizer has none."""
    template: Any = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default")
    return template or None


def check_variables(tokenizer: "PreTrainedTokenizerFast", model_name: str, variables: Mapping[str, Any]) -> None:
    """Refuse a variable that the template does not read: it would have no effect.

    Raises:
        UserError: naming the variables that the template has.
    """
    check_known(template_text(tokenizer) or "", model_name, variables)


def check_known(template: str, model_name: str, variables: Mapping[str, Any]) -> None:
    """As `check_variables`, by the template's text."""
    known = template_variables(template)
    unknown = [name for name in variables if name not in known]
    if unknown:
        raise UserError(
            f"The chat template of {model_name!r} has no variable {unknown[0]!r}, which `chat_template_kwargs` sets.",
            f"Use one of: {', '.join(known)}." if known else "Leave it out: this template has no variables.",
        )
