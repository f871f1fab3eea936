"""Any template: what it needs is found out by asking it, and what it writes anew is never appended to."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec
from agentrft.chat.template import TemplateRenderer
from tests.chat.templates import HERMES, THINKING, Family
from tests.chat.test_token_exactness import TOOLS, run

USER = {"role": "user", "content": "Where is it?"}
RESULT = {"role": "tool", "tool_call_id": "call_1", "name": "search", "content": "shelf 4"}


def codec_of(family: Family, base: PreTrainedTokenizerFast, **variables: Any) -> ChatCodec:
    codec = load_codec(family.tokenizer(base), "someone/model", template_kwargs=variables)
    assert isinstance(codec.renderer, TemplateRenderer)
    return codec


def ids_of(codec: ChatCodec, text: str) -> list[int]:
    return codec.renderer._tokenizer.encode(text, add_special_tokens=False)


def text_of(codec: ChatCodec, ids: list[int]) -> str:
    return codec.renderer._tokenizer.decode(ids, skip_special_tokens=False)


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def test_random_conversations_grow_into_what_a_render_of_the_whole_gives(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    tally = run(codec_of(HERMES, smollm2_tokenizer), seed=5, conversations=250)
    assert (tally.whole, tally.forks) == (250, 0)


def test_what_follows_a_turn_is_what_the_template_writes(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    codec = codec_of(HERMES, smollm2_tokenizer)
    prompt = codec.prompt_ids([USER], TOOLS)
    sampled = ids_of(codec, '<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call><|im_end|>')
    suffix = codec.append(prompt, sampled, [RESULT], TOOLS)
    assert suffix is not None
    expected = "\n<|im_start|>user\n<tool_response>\nshelf 4\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    assert text_of(codec, suffix) == expected


def test_a_turn_that_was_cut_off_is_closed(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    codec = codec_of(HERMES, smollm2_tokenizer)
    suffix = codec.append(codec.prompt_ids([USER], TOOLS), ids_of(codec, "I would"), [USER], TOOLS)
    assert suffix is not None
    assert text_of(codec, suffix).startswith("<|im_end|>\n<|im_start|>user\nWhere")


def test_a_turn_whose_thoughts_the_template_drops_is_not_gone_on_from(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = codec_of(THINKING, smollm2_tokenizer)
    prompt = codec.prompt_ids([USER], TOOLS)
    thought = ids_of(codec, "<think>\nHm.\n</think>\n\nThere.<|im_end|>")
    assert codec.append(prompt, thought, [USER], TOOLS) is None
    assert codec.append(prompt, ids_of(codec, "There.<|im_end|>"), [USER], TOOLS) is not None
    called = '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call><|im_end|>'
    assert codec.append(prompt, ids_of(codec, called), [RESULT], TOOLS) is not None


def test_a_prompt_that_promises_what_a_finished_turn_does_not_show_is_not_gone_on_from(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = codec_of(THINKING, smollm2_tokenizer, enable_thinking=False)
    prompt = codec.prompt_ids([USER], TOOLS)
    assert text_of(codec, prompt).endswith("<think>\n\n</think>\n\n")
    assert codec.append(prompt, ids_of(codec, "There.<|im_end|>"), [USER], TOOLS) is None


@pytest.mark.parametrize(("thinks", "before"), [(True, ""), (False, "<think>\n\n</think>\n\n")])
def test_demonstrations_are_trained_on_as_they_would_have_been_sampled(
    smollm2_tokenizer: PreTrainedTokenizerFast, thinks: bool, before: str
) -> None:
    codec = codec_of(THINKING, smollm2_tokenizer, enable_thinking=thinks)
    messages = [USER, assistant("Shelf 4."), USER, assistant("Still there.")]
    rows = codec.training_rows(messages, TOOLS)
    sampled = [
        text_of(codec, [token for token, is_sampled in zip(ids, mask, strict=True) if is_sampled]) for ids, mask in rows
    ]
    assert "".join(sampled) == "Shelf 4.<|im_end|>Still there.<|im_end|>"
    for ids, mask in rows:
        first = mask.index(True)
        assert text_of(codec, ids[:first]).endswith(f"<|im_start|>assistant\n{before}")


def test_the_ends_of_turns_are_found(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    codec = codec_of(HERMES, smollm2_tokenizer)
    assert text_of(codec, codec.stop_ids[:1]) == "<|im_end|>"
