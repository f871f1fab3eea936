"""A model's renderer is found by what its template writes, whatever the model is called."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from agentrft.chat import load_codec
from agentrft.chat.families import renderer_of
from agentrft.chat.template import TemplateRenderer
from tests.chat.templated import FAMILIES, tokenizer_like


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_any_name_gets_the_renderer_that_writes_as_its_template(
    smollm2_tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    tokenizer = tokenizer_like(family, smollm2_tokenizer)
    found = load_codec(tokenizer, "/models/exported").renderer
    assert type(found) is type(tokenizer.renderer)
    assert found.config == tokenizer.renderer.config  # type: ignore[attr-defined]


def test_a_known_name_whose_template_writes_otherwise_does_not_get_the_packages_renderer(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    changed = tokenizer_like("qwen3", smollm2_tokenizer, lambda text: text.replace("tool_response", "tool_answer"))
    codecs = [load_codec(changed, name) for name in ("Qwen/Qwen3-0.6B", "/models/folder", "exported")]
    assert [type(codec.renderer) for codec in codecs] == [TemplateRenderer] * 3
    assert all(codec.proof == codecs[0].proof and codec.proof and codec.proof.proven for codec in codecs)


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
    tokenizer = tokenizer_like("qwen3", smollm2_tokenizer, change)
    assert renderer_of(tokenizer, TemplateRenderer(tokenizer)) is None


def test_a_template_that_refuses_calls_has_none(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    def refuse(text: str) -> str:
        if "search" in text:
            raise ValueError("no tools here")
        return text

    tokenizer = tokenizer_like("qwen3", smollm2_tokenizer, refuse)
    assert renderer_of(tokenizer, TemplateRenderer(tokenizer)) is None
