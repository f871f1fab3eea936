"""Which renderer of the `renderers` package writes what a model's own template writes: found by comparing the two.

So a model has the same renderer by its hub id, from a folder, and as an exported merge; and one whose template was
changed has none that would write something else.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from renderers import RendererConfig, config_from_name, create_renderer
from renderers.base import MODEL_RENDERER_MAP, Renderer, template_field_names

from agentrft.chat.battery import BATTERY, Conversation
from agentrft.chat.template import TemplateRenderer
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# How a renderer of another family says that the tokenizer lacks its tokens, or meets what it does not know.
UNFIT = (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)

_Shown = tuple[list[dict[str, Any]], list[Any], list[int]]


def renderer_of(
    tokenizer: "PreTrainedTokenizerFast", template: TemplateRenderer, variables: Mapping[str, Any] | None = None
) -> Renderer | None:
    """The package's renderer that agrees with `template`, the tokenizer's, on all of the battery that this takes.

    `variables` are the template's; a renderer gets those that it knows, and has to write what they make of the others.
    """
    shown = _shown(template, BATTERY)
    if not any(tools for _, tools, _ in shown):
        return None
    for config in _configs():
        known = {name: value for name, value in (variables or {}).items() if name in template_field_names(config)}
        try:
            renderer = create_renderer(tokenizer, config, chat_template_kwargs=known)
        except UNFIT:
            continue
        if _agrees(renderer, shown):
            return renderer
    return None


def writes_as(renderer: Renderer, template: TemplateRenderer, conversations: Iterable[Conversation]) -> bool:
    """Whether `renderer` writes those of the conversations that the template takes as this does, and it takes one."""
    shown = _shown(template, conversations)
    return bool(shown) and _agrees(renderer, shown)


@cache
def _configs() -> tuple[RendererConfig, ...]:
    """Of all families, those that think unless told otherwise also as they are when told."""
    found: list[Any] = []
    for name in dict.fromkeys(MODEL_RENDERER_MAP.values()):
        config: Any = config_from_name(name)
        found.append(config)
        if "enable_thinking" in type(config).model_fields:
            thinks = bool(getattr(config, "enable_thinking", None) in (None, True))
            found.append(config.model_copy(update={"enable_thinking": not thinks}))
    return tuple(found)


def _shown(template: TemplateRenderer, conversations: Iterable[Conversation]) -> list[_Shown]:
    found = [(messages, tools, _ids(template, messages, tools)) for messages, tools in conversations]
    return [(messages, tools, ids) for messages, tools, ids in found if ids is not None]


def _agrees(renderer: Renderer, shown: Iterable[_Shown]) -> bool:
    return all(_ids(renderer, messages, tools) == ids for messages, tools, ids in shown)


def _ids(renderer: Renderer, messages: list[dict[str, Any]], tools: list[Any]) -> list[int] | None:
    try:
        return renderer.render_ids(cast(Any, messages), tools=tools or None, add_generation_prompt=True)
    except (UserError, *UNFIT):
        return None
