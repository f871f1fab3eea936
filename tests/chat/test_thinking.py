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

# Its prompts begin a thought, as DeepSeek-R1's do.
OPENED = Family(
    HERMES.template + "{% if add_generation_prompt %}<think>\n{% endif %}",
    HERMES.end,
    HERMES.special,
    [*HERMES.markup, "<think>", "</think>"],
)


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


def test_a_template_that_leaves_thoughts_out_has_a_model_that_thinks(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    left_out = HERMES.template.replace("{{ message.content }}", "{{ message.content.split('</think>')[-1] }}")
    assert by_template(Family(left_out, HERMES.end, HERMES.special, HERMES.markup), smollm2_tokenizer)


def test_a_prompt_that_ends_behind_an_empty_thought_switches_it_off(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert not by_template(THINKING, smollm2_tokenizer, enable_thinking=False)
    assert by_template(THINKING, smollm2_tokenizer, enable_thinking=True)


def test_a_prompt_that_begins_a_thought_switches_it_on(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert by_template(OPENED, smollm2_tokenizer)


def test_a_question_that_speaks_of_thoughts_is_none(chatml_codec: ChatCodec, smollm2_tokenizer: Any) -> None:
    assert not thinks(chatml_codec, smollm2_tokenizer)


@pytest.mark.parametrize("begins_in_prompt", [True, False])
def test_a_thought_without_an_end_is_no_answer(
    smollm2_tokenizer: PreTrainedTokenizerFast, qwen3_codec: ChatCodec, glm_codec: ChatCodec, begins_in_prompt: bool
) -> None:
    tokenizer = OPENED.tokenizer(smollm2_tokenizer) if begins_in_prompt else THINKING.tokenizer(smollm2_tokenizer)
    codecs = [ChatCodec(TemplateRenderer(tokenizer))]
    codecs += [] if begins_in_prompt else [qwen3_codec, glm_codec]
    for codec in codecs:
        own = codec.renderer._tokenizer
        prompt = codec.prompt_ids([{"role": "user", "content": "Where?"}])
        text = "It is on the shelf." if begins_in_prompt else "<think>It is on the shelf."
        for end in ([], codec.stop_ids[:1]):
            sampled = [*own.encode(text, add_special_tokens=False), *end]
            turn = codec.parse(sampled, prompt, new_call_id=lambda: "c")
            assert (turn.content, turn.tool_calls) == ("", [])
            assert turn.message["reasoning_content"].strip() == "It is on the shelf."
            assert codec.reasoning_tokens(sampled, prompt) >= len(sampled) - len(end) - 1


@pytest.mark.parametrize("on", [True, False])
def test_the_packages_renderers_are_seen_through(smollm2_tokenizer: PreTrainedTokenizerFast, on: bool) -> None:
    for name, special, markup in (("qwen3", QWEN3_SPECIAL, QWEN3_MARKUP), ("glm-4.5", GLM_SPECIAL, GLM_MARKUP)):
        assert by_renderer(name, smollm2_tokenizer, special, markup, enable_thinking=on) is on, name
