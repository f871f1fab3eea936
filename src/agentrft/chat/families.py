"""Which renderer of the `renderers` package writes what a model's own template writes: found by comparing the two.

So a model has the same renderer by its hub id, from a folder, and as an exported merge; and one whose template was
changed has none that would write something else.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from renderers import RendererConfig, config_from_name, create_renderer
from renderers.base import MODEL_RENDERER_MAP, Renderer, template_field_names

from agentrft.chat.template import TemplateRenderer
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# How a renderer of another family says that the tokenizer lacks its tokens, or meets what it does not know.
UNFIT = (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)

SEARCH: Any = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search the shelf.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "what"}, "limit": {"type": "integer"}},
            "required": ["query"],
        },
    },
}
LOOK_UP: Any = {
    "type": "function",
    "function": {"name": "look_up", "description": "One.", "parameters": {"type": "object", "properties": {}}},
}


def _call(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(number: int, name: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "name": name, "content": content}


SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Où est 北京? 🎉"}
ASKS = {"role": "assistant", "content": "", "tool_calls": [_call(1, "search", {"query": "北京", "limit": 3})]}
ASKS_TWICE = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [_call(2, "search", {"query": 'a "b"\n{c}'}), _call(3, "look_up", {})],
}
ANSWERS = {"role": "assistant", "content": "There."}
THINKS = {"role": "assistant", "content": "Here.", "reasoning_content": "It moved."}

THINKS_AND_ASKS = {**ASKS, "reasoning_content": "Which shelf?"}

# Conversations with their tools: one and several calls, parallel results, an empty one, thoughts before a call and
# before an answer, a second question.
BATTERY: list[tuple[list[dict[str, Any]], list[Any]]] = [
    ([USER], []),
    ([SYSTEM, USER, ANSWERS, USER], []),
    ([USER, THINKS, USER], []),
    ([SYSTEM, USER], [SEARCH, LOOK_UP]),
    ([USER, ASKS, _result(1, "search", "shelf 4")], [SEARCH, LOOK_UP]),
    (
        [SYSTEM, USER, ASKS_TWICE, _result(2, "search", ""), _result(3, "look_up", '{"a": [1]}'), ANSWERS, USER],
        [SEARCH, LOOK_UP],
    ),
    ([USER, THINKS_AND_ASKS, _result(1, "search", "shelf 4")], [SEARCH]),
    ([USER, THINKS_AND_ASKS, _result(1, "search", "shelf 4"), THINKS, USER, THINKS_AND_ASKS], [SEARCH]),
]


def renderer_of(tokenizer: "PreTrainedTokenizerFast", variables: Mapping[str, Any] | None = None) -> Renderer | None:
    """The package's renderer that agrees with the template of `tokenizer` on all of the battery that this takes.

    `variables` are the template's; a renderer gets those that it knows, and has to write what they make of the others.
    """
    try:
        template = TemplateRenderer(tokenizer, variables=variables)
    except UserError:
        return None
    expected = [(messages, tools, _ids(template, messages, tools)) for messages, tools in BATTERY]
    shown = [one for one in expected if one[2] is not None]
    if not any(tools for _, tools, _ in shown):
        return None
    for config in _configs():
        known = {name: value for name, value in (variables or {}).items() if name in template_field_names(config)}
        try:
            renderer = create_renderer(tokenizer, config, chat_template_kwargs=known)
        except UNFIT:
            continue
        if all(_ids(renderer, messages, tools) == ids for messages, tools, ids in shown):
            return renderer
    return None


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


def _ids(renderer: Renderer, messages: list[dict[str, Any]], tools: list[Any]) -> list[int] | None:
    try:
        return renderer.render_ids(cast(Any, messages), tools=tools or None, add_generation_prompt=True)
    except (UserError, *UNFIT):
        return None
