"""Whether a model thinks before it answers is seen by what its template does."""

from typing import Any

import pytest
from renderers import config_from_name, create_renderer
from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec
from agentrft.chat.template import TemplateRenderer
from agentrft.chat.thinking import thinks
from tests.chat.templated import GLM_MARKUP, GLM_SPECIAL, QWEN3_MARKUP, QWEN3_SPECIAL, with_tokens
from tests.chat.templates import HERMES, THINKING, Family


def by_template(family: Family, base: PreTrainedTokenizerFast, **variables: Any) -> bool:
    tokenizer = family.tokenizer(base)
    return thinks(ChatCodec(TemplateRenderer(tokenizer, variables=variables)), tokenizer)


def by_renderer(name: str, base: PreTrainedTokenizerFast, special: list[str], markup: list[str], **fields: Any) -> bool:
    tokenizer = with_tokens(base, special, markup)
    config = config_from_name(name).model_copy(update=fields)
    return thinks(ChatCodec(create_renderer(tokenizer, config)), tokenizer)


def test_a_template_that_shows_thoughts_has_a_model_that_thinks(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert by_template(THINKING, smollm2_tokenizer)
    assert not by_template(HERMES, smollm2_tokenizer)


def test_a_prompt_that_ends_behind_an_empty_thought_switches_it_off(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert not by_template(THINKING, smollm2_tokenizer, enable_thinking=False)
    assert by_template(THINKING, smollm2_tokenizer, enable_thinking=True)


def test_a_prompt_that_begins_a_thought_switches_it_on(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    begun = HERMES.template.replace('{% endif %}"""', "") + "{% if add_generation_prompt %}<think>\n{% endif %}"
    family = Family(begun, HERMES.end, HERMES.special, [*HERMES.markup, "<think>", "</think>"])
    assert by_template(family, smollm2_tokenizer)


def test_a_question_that_speaks_of_thoughts_is_none(chatml_codec: ChatCodec, smollm2_tokenizer: Any) -> None:
    assert not thinks(chatml_codec, smollm2_tokenizer)


@pytest.mark.parametrize("on", [True, False])
def test_the_packages_renderers_are_seen_through(smollm2_tokenizer: PreTrainedTokenizerFast, on: bool) -> None:
    for name, special, markup in (("qwen3", QWEN3_SPECIAL, QWEN3_MARKUP), ("glm-4.5", GLM_SPECIAL, GLM_MARKUP)):
        assert by_renderer(name, smollm2_tokenizer, special, markup, enable_thinking=on) is on, name
