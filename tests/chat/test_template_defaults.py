"""A template with defaults of its own writes what it would have written had they been given."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from agentrft.chat import load_codec
from agentrft.chat.template_defaults import with_defaults
from agentrft.chat.thinking import thinks
from agentrft.template_variables import template_variables
from tests.chat.templates import THINKING

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Where?"}]
SHOWN = """
  {% if a is defined %}[{{ a }}|{{ a is string }}]{% endif %}
{% for message in messages %}{{ message.content }}{% endfor %}"""


def rendered(tokenizer: PreTrainedTokenizerFast, template: str, **variables: Any) -> str:
    return str(tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, **variables))


@pytest.mark.parametrize(
    "value", [True, False, 0, -3, 2**53, 0.5, -1e-07, "", "low", 'a "b" \\ {{ c }} %}', "Ü 北京 🎉\n\ttab", "{% raw %}"]
)
def test_a_default_is_written_as_if_it_had_been_given(smollm2_tokenizer: PreTrainedTokenizerFast, value: Any) -> None:
    changed = with_defaults(SHOWN, {"a": value})
    assert rendered(smollm2_tokenizer, changed) == rendered(smollm2_tokenizer, SHOWN, a=value)
    assert rendered(smollm2_tokenizer, changed, a="other") == rendered(smollm2_tokenizer, SHOWN, a="other")
    assert template_variables(changed) == ["a"], "it can still be set"
    assert with_defaults(SHOWN, {}) == SHOWN


@pytest.mark.parametrize("value", [True, False])
def test_a_model_with_defaults_has_the_codec_of_one_that_is_given_them(
    smollm2_tokenizer: PreTrainedTokenizerFast, value: bool
) -> None:
    given, has = THINKING.tokenizer(smollm2_tokenizer), THINKING.tokenizer(smollm2_tokenizer)
    has.chat_template = with_defaults(THINKING.template, {"enable_thinking": value})
    by_kwargs = load_codec(given, "m", template_kwargs={"enable_thinking": value})
    by_default = load_codec(has, "m")
    for messages in (MESSAGES, [*MESSAGES, {"role": "assistant", "content": "There."}, *MESSAGES]):
        assert by_kwargs.prompt_ids(messages) == by_default.prompt_ids(messages)
    assert type(by_kwargs.renderer) is type(by_default.renderer)
    assert thinks(by_default, has) is value
    overridden = load_codec(has, "m", template_kwargs={"enable_thinking": not value})
    assert overridden.prompt_ids(MESSAGES) != by_default.prompt_ids(MESSAGES)
