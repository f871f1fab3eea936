"""Tokens of calls that a model never learned are text, so that a warm start can teach them."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from agentrft.models import resolve_model
from agentrft.models.load import load_tokenizer

TEXTS = ("<tool_call>", "</tool_call>", "<tool_response>")
TEMPLATE = "<|im_start|>{{ messages }}<tool_call></tool_call><tool_response>"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
ROWS = 300


def make_model(folder: Path, *, untrained: tuple[str, ...], head_only: tuple[str, ...] = (), tied: bool = True) -> Path:
    """A model whose tokens `untrained` have the rows of unused ids, in the embeddings and in the head."""
    vocabulary = {text: number for number, text in enumerate([*BYTES, "<|im_start|>"])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|im_start|>", special=True)])
    backend.add_tokens([AddedToken(text, special=False) for text in TEXTS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=TEMPLATE)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=ROWS, num_key_value_heads=1, tie_word_embeddings=tied, **sizes))
    source = torch.Generator().manual_seed(0)
    for layer, texts in (
        (model.get_input_embeddings(), untrained),
        (model.get_output_embeddings(), (*untrained, *head_only)),
    ):
        weight = torch.randn(ROWS, 16, generator=source) if not tied or layer is model.get_input_embeddings() else None
        if weight is None:
            continue
        weight[len(tokenizer) :] = weight[-1]
        weight[[tokenizer.convert_tokens_to_ids(text) for text in texts]] = weight[-1] * 1.02
        layer.weight.data = weight
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def encoded(folder: Path, text: str) -> int:
    """Of how many tokens it is."""
    tokenizer = load_tokenizer(resolve_model(str(folder)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    return len(ids)


@pytest.mark.parametrize("tied", [True, False])
def test_tokens_that_were_never_trained_are_text(tmp_path: Path, tied: bool) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>", "</tool_call>"), tied=tied)
    assert encoded(folder, "<tool_call>") == len("<tool_call>")
    assert encoded(folder, "</tool_call>") == len("</tool_call>")
    assert encoded(folder, "<tool_response>") == encoded(folder, "<|im_start|>") == 1


def test_no_token_gets_another_number(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>",))
    before = PreTrainedTokenizerFast.from_pretrained(folder).get_vocab()
    after = load_tokenizer(resolve_model(str(folder))).get_vocab()
    renamed = {("<|unused_257|>" if text == "<tool_call>" else text): number for text, number in before.items()}
    assert after.items() >= renamed.items()


def test_they_are_text_in_what_is_saved_of_such_a_tokenizer_too(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>",))
    load_tokenizer(resolve_model(str(folder))).save_pretrained(folder)
    assert encoded(folder, "<tool_call>") == len("<tool_call>")
    assert encoded(folder, "</tool_call>") == 1


def test_tokens_that_are_only_read_and_never_written_stay_tokens(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=(), head_only=("<tool_response>",), tied=False)
    assert [encoded(folder, text) for text in TEXTS] == [1, 1, 1]


def test_trained_tokens_stay_tokens(tmp_path: Path) -> None:
    assert [encoded(make_model(tmp_path, untrained=()), text) for text in TEXTS] == [1, 1, 1]


def test_what_the_template_does_not_write_is_left_alone(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>",))
    (folder / "chat_template.jinja").write_text("<|im_start|>{{ messages }}")
    assert encoded(folder, "<tool_call>") == 1


def test_weights_in_several_files_tell_it_too(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>",))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    places = {"model.embed_tokens.weight": "model-00001-of-00001.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert encoded(folder, "<tool_call>") == len("<tool_call>")


def test_a_tokenizer_without_weights_is_as_it_is(tmp_path: Path) -> None:
    folder = make_model(tmp_path, untrained=("<tool_call>",))
    (folder / "model.safetensors").unlink()
    assert encoded(folder, "<tool_call>") == 1
