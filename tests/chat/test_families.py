"""A model's renderer is found by what its template writes, whatever the model is called."""

import copy
from typing import Any

import pytest
from renderers import config_from_name, create_renderer
from renderers.base import Renderer
from transformers import PreTrainedTokenizerFast

from agentrft.chat import load_codec
from agentrft.chat.families import renderer_of
from tests.chat.conftest import GLM_MARKUP, GLM_SPECIAL, QWEN3_MARKUP, QWEN3_SPECIAL, with_tokens

FAMILIES = {
    "qwen3": (QWEN3_SPECIAL, QWEN3_MARKUP, {}),
    "glm-4.5": (GLM_SPECIAL, GLM_MARKUP, {}),
    "qwen3, told not to think": (QWEN3_SPECIAL, QWEN3_MARKUP, {"enable_thinking": False}),
}


class Templated(PreTrainedTokenizerFast):
    """Its template writes what a renderer does, but for what `change` makes of it."""

    renderer: Renderer
    change: Any

    def apply_chat_template(self, messages: Any, tools: Any = None, **options: Any) -> str:  # type: ignore[override]
        prompts = options["add_generation_prompt"]
        ids = self.renderer.render_ids(copy.deepcopy(messages), tools=tools, add_generation_prompt=prompts)
        return self.change(self.decode(ids, skip_special_tokens=False))


def tokenizer_like(family: str, base: PreTrainedTokenizerFast, change: Any = str) -> Templated:
    special, markup, fields = FAMILIES[family]
    tokenizer: Any = with_tokens(base, special, markup)
    config = config_from_name(family.split(",")[0]).model_copy(update=fields)
    renderer = create_renderer(with_tokens(base, special, markup), config)
    tokenizer.__class__ = type("Templated", (Templated, type(tokenizer)), {})
    tokenizer.renderer, tokenizer.change = renderer, change
    tokenizer.chat_template = "{{ tools }} <tool_call>"
    return tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_any_name_gets_the_renderer_that_writes_as_its_template(
    smollm2_tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    tokenizer = tokenizer_like(family, smollm2_tokenizer)
    found = load_codec(tokenizer, "/models/exported").renderer
    assert type(found) is type(tokenizer.renderer)
    assert found.config == tokenizer.renderer.config  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", " "),
        lambda text: text.replace("shelf 4", "shelf 5"),
        lambda text: text.replace("</think>", "</think> "),
        lambda text: text + " ",
    ],
    ids=["white space", "a result", "thoughts", "the end"],
)
def test_one_that_differs_anywhere_is_not_taken(smollm2_tokenizer: PreTrainedTokenizerFast, change: Any) -> None:
    assert renderer_of(tokenizer_like("qwen3", smollm2_tokenizer, change)) is None


def test_a_template_that_refuses_calls_has_none(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    def refuse(text: str) -> str:
        if "search" in text:
            raise ValueError("no tools here")
        return text

    assert renderer_of(tokenizer_like("qwen3", smollm2_tokenizer, refuse)) is None
