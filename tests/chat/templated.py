"""Tokenizers whose chat template writes what a renderer of the `renderers` package does, or nearly that."""

import copy
from typing import Any

from renderers import config_from_name, create_renderer
from renderers.base import Renderer
from transformers import AddedToken, PreTrainedTokenizerFast

QWEN3_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN3_MARKUP = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
GLM_SPECIAL = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
GLM_MARKUP = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>"]
GLM_MARKUP += ["<arg_value>", "</arg_value>", "<tool_response>", "</tool_response>"]
FAMILIES: dict[str, tuple[list[str], list[str], dict[str, Any]]] = {
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


def with_tokens(tokenizer: PreTrainedTokenizerFast, special: list[str], markup: list[str]) -> PreTrainedTokenizerFast:
    extended = copy.deepcopy(tokenizer)
    # The renderers take a token that is also the unknown one, as SmolLM2's <|endoftext|>, for a missing one.
    extended.unk_token = None
    extended.add_tokens([AddedToken(text, special=True, normalized=False) for text in special], special_tokens=True)
    extended.add_tokens([AddedToken(text, special=False, normalized=False) for text in markup])
    return extended
