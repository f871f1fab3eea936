"""Variables of a chat template reach whatever renders it, and one that it does not have is refused."""

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from agentrft.chat import load_codec
from agentrft.errors import UserError
from agentrft.template_variables import template_variables
from tests.chat.templates import HERMES, THINKING

USER = {"role": "user", "content": "Where is it?"}


def test_they_are_found_in_the_template() -> None:
    assert template_variables(THINKING.template) == ["enable_thinking"]
    assert template_variables(HERMES.template) == []


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{% set effort = effort | default('low') %}{{ effort }}", ["effort"]),
        ("{% macro shown(x) %}{{ x }}{{ depth }}{% endmacro %}{{ shown(messages[0]) }}", ["depth"]),
        ("{% for m in messages %}{% generation %}{{ m }}{% endgeneration %}{% break %}{% endfor %}", []),
        ("{{ bos_token }}{{ raise_exception('no') }}{{ strftime_now('%d') }}{{ namespace(x=1) }}", []),
        ("{% if not a is defined %}{% set a = true %}{% endif %}{{ b }}", ["a", "b"]),
        ("{% if tools %}{% set text = 1 %}{% endif %}{{ text }}", []),
        ("{% this is no template", []),
    ],
)
def test_what_a_conversation_or_the_template_gives_is_none(template: str, names: list[str]) -> None:
    assert template_variables(template) == names


@pytest.mark.parametrize(("thinks", "end"), [(True, "assistant\n"), (False, "</think>\n\n")])
def test_they_reach_the_template(smollm2_tokenizer: PreTrainedTokenizerFast, thinks: bool, end: str) -> None:
    tokenizer = THINKING.tokenizer(smollm2_tokenizer)
    codec = load_codec(tokenizer, "someone/model", template_kwargs={"enable_thinking": thinks})
    assert tokenizer.decode(codec.prompt_ids([USER])).endswith(end)


def test_one_that_the_template_does_not_have_is_refused_with_those_it_has(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(UserError, match="no variable 'enable_thought'") as raised:
        load_codec(THINKING.tokenizer(smollm2_tokenizer), "m", template_kwargs={"enable_thought": True})
    assert raised.value.remedy == "Use one of: enable_thinking."
    with pytest.raises(UserError, match="no variable 'enable_thinking'") as raised:
        load_codec(copy.deepcopy(smollm2_tokenizer), "smollm2-135m", template_kwargs={"enable_thinking": True})
    assert raised.value.remedy == "Leave it out: this template has no variables."
