"""The tokenizer of a real Qwen2.5, where `scripts/fetch_test_model.py` has put it into the cache."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from agentrft.chat.loading import load_codec
from agentrft.models.catalog import cache_folder, is_complete, resolve_model
from agentrft.models.load import load_tokenizer

FOLDER = cache_folder() / "models" / "qwen2.5-coder-0.5b-instruct"
pytestmark = pytest.mark.skipif(not is_complete(FOLDER), reason="scripts/fetch_test_model.py was not run here")
CONTROLS = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
MARKUP = {"<|fim_prefix|>": 151659, "<|file_sep|>": 151664}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return load_tokenizer(resolve_model(str(FOLDER)))


def test_control_tokens_are_one_id_each_and_special_where_qwens_are(tokenizer: PreTrainedTokenizerFast) -> None:
    for token, number in (CONTROLS | MARKUP).items():
        assert tokenizer.encode(f"a{token}b")[1:-1] == [number]
        assert tokenizer.added_tokens_decoder[number].special == (token in CONTROLS)
    assert len(tokenizer) == 151_665


def test_the_tokens_of_calls_that_it_never_learned_are_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("<tool_call>\n")) == ["<", "tool", "_call", ">Ċ"]
    assert len(tokenizer.encode("</tool_call>")) > 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_what_is_encoded_is_decoded_to_the_same(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_its_codec_is_the_templates_and_proven_whatever_it_is_called(tokenizer: PreTrainedTokenizerFast) -> None:
    for name in (str(FOLDER), "Qwen/Qwen2.5-Coder-0.5B-Instruct"):
        proof = load_codec(tokenizer, name).proof
        assert proof is not None
        assert (proof.family, proof.proven, proof.warm_start_refusal) == ("template", True, None)
