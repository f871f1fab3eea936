"""Which renderer a model gets: found by what its tokenizer's chat template does, whatever the model is called."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from renderers import RendererConfig, config_from_name, create_renderer
from renderers.base import MODEL_RENDERER_MAP, Renderer

from agentrft.chat.battery import BATTERY, ROLLOUTS, SYSTEM, TOOLS, USER
from agentrft.chat.call_formats import NOT_JSON, Hermes, TurnFormat
from agentrft.chat.call_formats.xml import ArgumentTags, FunctionTags
from agentrft.chat.chatml import TURN_START, ChatMLToolRenderer
from agentrft.chat.codec import ChatCodec
from agentrft.chat.families import renderer_of, writes_as
from agentrft.chat.hermes import describe_tools
from agentrft.chat.proof import prove
from agentrft.chat.template import TemplateRenderer
from agentrft.chat.thinking import thinks
from agentrft.chat.variables import check_variables, template_text
from agentrft.errors import UserError
from agentrft.template_variables import template_variables

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_codec(
    tokenizer: "PreTrainedTokenizerFast", model_name: str, *, template_kwargs: Mapping[str, Any] | None = None
) -> ChatCodec:
    """The codec for a model, with the proof of what it does.

    In this order, the first that is proven: ours for ChatML where the template writes that, and has no tools or has
    them as ours; the `renderers` package's own renderer that writes what the template does; the chat template itself.
    The model's name makes no difference, but where a model of the package has no template.

    Args:
        tokenizer: the model's, with its chat template.
        model_name: for messages.
        template_kwargs: variables of the template, such as `enable_thinking` or `reasoning_effort`.

    Raises:
        UserError: the tokenizer has no chat template, or one whose tool calls cannot be read; or the template has no
            such variable.
    """
    variables = dict(template_kwargs or {})
    template = template_text(tokenizer)
    if template is None:
        return _without_template(tokenizer, model_name, variables)
    if variables:
        check_variables(tokenizer, model_name, variables)
    rendered = TemplateRenderer(tokenizer, variables=variables)
    variables_of = template_variables(template)
    codecs = [
        _proven(tokenizer, family, renderer, rendered, variables_of)
        for family, renderer in _candidates(tokenizer, rendered, variables)
    ]
    if not codecs:
        raise UserError(
            f"The chat template of {model_name!r} has no tool calls that can be read back.",
            "Use a ChatML model, one whose template writes calls as JSON, or one that the `renderers` package knows.",
        )
    # The first that is proven, else the one that goes on in most situations.
    return next((codec for codec in codecs if codec.proof and codec.proof.proven), None) or max(
        codecs, key=lambda codec: codec.proof.appended if codec.proof else 0
    )


def _candidates(
    tokenizer: "PreTrainedTokenizerFast", template: TemplateRenderer, variables: Mapping[str, Any]
) -> Iterator[tuple[str, Renderer]]:
    """The renderers that write what the template does, each with its family's name."""
    if not variables and (chatml := _chatml(tokenizer, template)) is not None:
        yield "chatml", chatml
        return
    if template.template.takes_tools and (found := renderer_of(tokenizer, template, variables)) is not None:
        yield str(cast(Any, found).config.name), found
    if template.reads_calls:
        yield "template", template


def _chatml(tokenizer: "PreTrainedTokenizerFast", template: TemplateRenderer) -> ChatMLToolRenderer | None:
    try:
        shown = template.template.text([SYSTEM, USER], TOOLS, True)
        # Most templates differ here already, and a copy of a large tokenizer takes a while.
        if TURN_START not in shown or (template.template.takes_tools and describe_tools(TOOLS) not in shown):
            return None
        renderer = ChatMLToolRenderer(tokenizer)
    except UserError:
        return None
    # Without a system's message some templates write one of their own, which says nothing of their form.
    spoken = [
        (messages, tools) for messages, tools in [*BATTERY, *ROLLOUTS] if not tools and messages[0]["role"] == "system"
    ]
    same = writes_as(renderer, template, BATTERY if template.template.takes_tools else spoken)
    return renderer if same else None


def _proven(
    tokenizer: "PreTrainedTokenizerFast",
    family: str,
    renderer: Renderer,
    template: TemplateRenderer,
    variables: list[str],
) -> ChatCodec:
    codec = ChatCodec(renderer) if isinstance(renderer, ChatMLToolRenderer) else _codec(tokenizer, renderer, template)
    form = Hermes() if isinstance(renderer, ChatMLToolRenderer) else template.call_format
    codec.proof = prove(
        codec,
        family=family,
        call_format=form.label if form else "the package's own",
        thinks=thinks(codec, tokenizer),
        variables=variables,
    )
    return codec


def _without_template(tokenizer: "PreTrainedTokenizerFast", model_name: str, variables: Mapping[str, Any]) -> ChatCodec:
    """The package's renderer for a model that needs no template."""
    name = MODEL_RENDERER_MAP.get(model_name) or MODEL_RENDERER_MAP.get(tokenizer.name_or_path)
    if name is None:
        raise UserError(
            f"The tokenizer of {model_name!r} has no chat template.",
            "Use the model's instruct version, or put a chat_template.jinja beside its tokenizer.",
        )
    config = cast(RendererConfig, config_from_name(name))
    try:
        renderer = create_renderer(tokenizer, config, chat_template_kwargs=variables)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The renderer of {model_name!r} refuses: {error}", "Leave out `chat_template_kwargs`."
        ) from error
    codec = _codec(tokenizer, renderer)
    codec.proof = prove(
        codec, family=name, call_format="the package's own", thinks=thinks(codec, tokenizer), variables=()
    )
    return codec


def _codec(
    tokenizer: "PreTrainedTokenizerFast", renderer: Renderer, template: TemplateRenderer | None = None
) -> ChatCodec:
    added = tokenizer.added_tokens_decoder.values()
    return ChatCodec(
        renderer,
        control_texts=[token.content for token in added if token.special],
        markup_texts=[token.content for token in added if not token.special and not token.content.isspace()],
        json_calls=template is None or not isinstance(template.call_format, NOT_JSON),
        reads_values=_reads_values(renderer, template),
        ends_thoughts=template is not None and template.turns.closes_thought,
    )


def _reads_values(renderer: Renderer, template: TemplateRenderer | None) -> TurnFormat | None:
    """For the package's renderers of forms whose values have no quotes: what reads them as the tools declare."""
    if template is None or renderer is template or not isinstance(template.call_format, FunctionTags | ArgumentTags):
        return None
    return template.call_format
