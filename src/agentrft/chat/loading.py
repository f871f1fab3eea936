"""Which renderer a model gets, from its name and its tokenizer's chat template."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from renderers import RendererConfig, config_from_name, create_renderer
from renderers.base import MODEL_RENDERER_MAP, Renderer

from agentrft.chat.chatml import TURN_START, ChatMLToolRenderer
from agentrft.chat.codec import ChatCodec
from agentrft.chat.families import renderer_of
from agentrft.chat.template import TemplateRenderer
from agentrft.chat.variables import check_variables, template_text
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_codec(
    tokenizer: "PreTrainedTokenizerFast", model_name: str, *, template_kwargs: Mapping[str, Any] | None = None
) -> ChatCodec:
    """The codec for a model.

    `template_kwargs` are variables of its chat template, such as `enable_thinking` or `reasoning_effort`.

    In this order: the `renderers` package's own renderer where it knows the model by name, or has one that writes what
    the model's template does; ours for ChatML whose template has no tools, or writes calls as text; the chat template
    itself where its tool calls can be parsed.
    The last appends to sampled ids where the template writes nothing before them anew; elsewhere each turn of a rollout
    becomes a training row of its own.

    Raises:
        UserError: the tokenizer has no chat template, or one whose tool calls cannot be read; or the template has no
            such variable.
    """
    variables = dict(template_kwargs or {})
    if variables:
        check_variables(tokenizer, model_name, variables)
    renderer_name = MODEL_RENDERER_MAP.get(model_name) or MODEL_RENDERER_MAP.get(tokenizer.name_or_path)
    if renderer_name is not None and not variables:
        return _package_codec(tokenizer, renderer_name)
    template = _template(tokenizer, model_name)
    if "tools" in template and (renderer := renderer_of(tokenizer, variables)) is not None:
        return _codec(tokenizer, renderer)
    is_text = "tools" not in template or _calls_are_text(template, tokenizer)
    if TURN_START in template and is_text and not variables:
        return ChatCodec(ChatMLToolRenderer(tokenizer))
    renderer = TemplateRenderer(tokenizer, variables=variables)
    if not renderer.reads_calls and "tools" in template and (parser := _tool_parser(template, tokenizer)):
        renderer = TemplateRenderer(tokenizer, parser, variables=variables)
    if not renderer.reads_calls:
        raise UserError(
            f"The chat template of {model_name!r} has no tool calls that can be read back.",
            "Use a ChatML model, one whose template writes calls as JSON, or one that the `renderers` package knows.",
        )
    return _codec(tokenizer, renderer)


def _package_codec(tokenizer: "PreTrainedTokenizerFast", name: str) -> ChatCodec:
    return _codec(tokenizer, create_renderer(tokenizer, cast(RendererConfig, config_from_name(name))))


def _codec(tokenizer: "PreTrainedTokenizerFast", renderer: Renderer) -> ChatCodec:
    added = tokenizer.added_tokens_decoder.values()
    return ChatCodec(
        renderer,
        control_texts=[token.content for token in added if token.special],
        markup_texts=[token.content for token in added if not token.special and not token.content.isspace()],
    )


def _template(tokenizer: "PreTrainedTokenizerFast", model_name: str) -> str:
    template = template_text(tokenizer)
    if template is None:
        raise UserError(
            f"The tokenizer of {model_name!r} has no chat template.",
            "Use the model's instruct version, or put a chat_template.jinja beside its tokenizer.",
        )
    return template


def _calls_are_text(template: str, tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether the template writes `<tool_call>` and the tokenizer has no token for it."""
    return "<tool_call>" in template and "<tool_call>" not in tokenizer.get_vocab()


def _tool_parser(template: str, tokenizer: "PreTrainedTokenizerFast") -> str | None:
    """The package's parser for the calls that the template writes, where these are no JSON."""
    if _calls_are_text(template, tokenizer):
        return None
    if "<tool_call>" in template and "<arg_key>" in template:
        return "glm"
    if "<tool_call>" in template and "<function=" in template:
        return "qwen3.5"
    return "deepseek-v3" if "<｜tool▁calls▁begin｜>" in template else None  # noqa: RUF001 (the token is spelled so)
