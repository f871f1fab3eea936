"""What a codec is proven to do is found at load, and what it is not proven to do begins a row of its own."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, ChatMLToolRenderer, load_codec
from agentrft.chat.proof import CodecProof, Situation
from agentrft.chat.template import TemplateRenderer
from agentrft.errors import UserError
from tests.chat.templated import tokenizer_like
from tests.chat.templates import HERMES, THINKING, Family
from tests.chat.test_token_exactness import TOOLS

USER = {"role": "user", "content": "Where is it?"}
RESULT = {"role": "tool", "tool_call_id": "call_1", "name": "search", "content": "shelf 4"}


def codec_of(family: Family, base: PreTrainedTokenizerFast) -> ChatCodec:
    return load_codec(family.tokenizer(base), "someone/model")


def proof_of(codec: ChatCodec) -> CodecProof:
    assert codec.proof is not None
    return codec.proof


def calls(*queries: str) -> dict[str, Any]:
    made = [
        {"id": f"call_{number}", "type": "function", "function": {"name": "search", "arguments": {"query": query}}}
        for number, query in enumerate(queries, 1)
    ]
    return {"role": "assistant", "content": "", "tool_calls": made}


def text_of(codec: ChatCodec, *messages: dict[str, Any]) -> str:
    return codec.text_of(codec.prompt_ids(messages, TOOLS))


def test_a_template_that_writes_nothing_anew_is_proven_everywhere(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    proof = proof_of(codec_of(HERMES, smollm2_tokenizer))
    assert (proof.family, proof.renderer, proof.proven, proof.warm_start) == (
        "template",
        "TemplateRenderer",
        True,
        True,
    )
    assert (proof.forks, proof.unproven, proof.thinks) == ((), (), False)
    assert proof.call_format == 'JSON: <tool_call>{"name": …, "arguments": …}</tool_call>'


def test_where_a_template_drops_thoughts_a_new_row_begins_and_the_proof_says_so(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    proof = proof_of(codec_of(THINKING, smollm2_tokenizer))
    assert proof.proven and proof.thinks
    assert "after an answer with reasoning, when the user speaks again" in proof.forks
    assert not any("at the results" in fork and "words" not in fork for fork in proof.forks)
    assert proof.variables == ("enable_thinking",)


def test_the_builtin_model_is_proven(chatml_codec: ChatCodec) -> None:
    proof = proof_of(chatml_codec)
    assert (proof.family, proof.proven, proof.forks, proof.warm_start) == ("chatml", True, (), True)


def test_the_packages_renderers_are_proven_where_they_write_as_the_template_does(qwen3_codec: ChatCodec) -> None:
    proof = proof_of(qwen3_codec)
    assert (proof.family, proof.renderer, proof.proven, proof.warm_start) == ("qwen3", "Qwen3Renderer", True, True)


def test_by_whatever_name_a_model_gets_the_same_codec(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    names = ["Qwen/Qwen2.5-0.5B-Instruct", "/models/qwen", "Qwen/Qwen3-0.6B", "exports/merged"]
    proofs = [proof_of(load_codec(HERMES.tokenizer(smollm2_tokenizer), name)) for name in names]
    assert all(proof == proofs[0] for proof in proofs)


def test_what_a_renderer_would_append_and_its_template_does_not_write_is_never_appended(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    # What the system says is left out as soon as a tool has spoken: nothing of it is in the sampled ids.
    forgetful = HERMES.template.replace("{{ first }}", "{{ 'You help.' if messages[-1].role == 'tool' else first }}")
    codec = codec_of(Family(forgetful, "<|im_end|>", HERMES.special, HERMES.markup), smollm2_tokenizer)
    proof = proof_of(codec)
    assert proof.proven and "after a call, at the results" in proof.forks
    assert Situation(thinks=False, says=False, calls=1, follows="tool") in proof.blocked
    prompt = codec.prompt_ids([USER], TOOLS)
    sampled = codec.sampled_ids([USER, calls("x"), RESULT], 1, TOOLS)
    assert codec.append(prompt, sampled, [RESULT], TOOLS) is None


def test_a_demonstration_that_cannot_be_told_apart_is_refused_by_the_proof_before_a_warm_start_is(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    endless = HERMES.template.replace("<|im_end|>", "").replace("<|im_start|>", "\n##")
    proof = proof_of(codec_of(Family(endless, "<|im_end|>", HERMES.special, HERMES.markup), smollm2_tokenizer))
    assert not proof.proven and not proof.warm_start
    assert "no token that ends an assistant's turn" in str(proof.warm_start_refusal)


# As Llama's: one call a turn, and nothing but JSON.
ONE_CALL = Family(
    """{%- if tools %}<|start|>system: {{ tools | tojson }}<|end|>{% endif -%}
{%- for m in messages -%}
<|start|>{{ m.role }}:
{%- if m.tool_calls -%}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif -%}
{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}
{%- else %}{{ m.content }}{% endif -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt %}<|start|>assistant:{% endif -%}""",
    end="<|end|>",
    special=["<|start|>", "<|end|>"],
)


def test_where_a_template_takes_one_call_several_are_shown_as_turns_of_their_own(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = codec_of(ONE_CALL, smollm2_tokenizer)
    assert proof_of(codec).proven and codec.one_call
    results = [RESULT, {**RESULT, "tool_call_id": "call_2", "content": "shelf 5"}]
    shown = text_of(codec, USER, calls("x", "y"), *results)
    assert shown.index('"x"') < shown.index("shelf 4") < shown.index('"y"') < shown.index("shelf 5")
    prompt = codec.prompt_ids([USER], TOOLS)
    both = '{"name": "search", "parameters": {}}; {"name": "search", "parameters": {}}<|end|>'
    sampled = codec.renderer._tokenizer.encode(both, add_special_tokens=False)
    assert len(codec.parse(sampled, prompt, TOOLS, new_call_id=lambda: "c").tool_calls) == 2
    assert codec.append(prompt, sampled, results, TOOLS) is None


def test_a_demonstration_with_several_calls_is_trained_as_the_template_takes_them(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = codec_of(ONE_CALL, smollm2_tokenizer)
    results = [RESULT, {**RESULT, "tool_call_id": "call_2"}]
    ((ids, mask),) = codec.training_rows(
        [USER, calls("x", "y"), *results, {"role": "assistant", "content": "4"}], TOOLS
    )
    sampled = codec.text_of([token for token, trained in zip(ids, mask, strict=True) if trained])
    assert sampled.count("<|end|>") == 3 and sampled.endswith("4<|end|>")


# As Gemma 3's: no tools, no systems, and turns that alternate.
PLAIN = Family(
    """{%- for m in messages -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif -%}
<|start|>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}<|end|>
{% endfor -%}
{%- if add_generation_prompt %}<|start|>model
{% endif -%}""",
    end="<|end|>",
    special=["<|start|>", "<|end|>"],
)


def test_a_template_without_tools_or_systems_has_them_in_the_users_words(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = codec_of(PLAIN, smollm2_tokenizer)
    proof = proof_of(codec)
    assert proof.proven and proof.warm_start and proof.call_format.startswith("ours")
    messages = [
        {"role": "system", "content": "Be brief."},
        USER,
        calls("x", "y"),
        RESULT,
        {**RESULT, "content": "5"},
        USER,
    ]
    assert [part.partition("\n")[0] for part in text_of(codec, *messages).split("<|start|>")[1:]] == [
        "user",
        "model",
        "user",
        "model",
    ]
    shown = text_of(codec, *messages)
    assert shown.index("Be brief.") < shown.index('"name":"search"') < shown.index("Where is it?")
    assert shown.count("<tool_response>") == 2


@pytest.mark.parametrize(
    "template",
    [
        "{{ tools }}{% for m in messages %}<|im_start|>{{ m.content }}{{ m.tool_calls }}<|im_end|>{% endfor %}",
        "{{ messages }}",
    ],
)
def test_a_template_whose_calls_nobody_can_read_is_refused(
    smollm2_tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    with pytest.raises(UserError, match="no tool calls that can be read back"):
        codec_of(Family(template, "<|im_end|>", HERMES.special), smollm2_tokenizer)


def test_ours_is_not_taken_for_chatml_that_writes_otherwise(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = HERMES.tokenizer(smollm2_tokenizer)
    assert not isinstance(load_codec(tokenizer, "smollm2-135m").renderer, ChatMLToolRenderer)


def test_told_not_to_think_a_model_is_shown_demonstrations_without_thoughts(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = load_codec(tokenizer_like("qwen3, told not to think", smollm2_tokenizer), "Qwen/Qwen3-0.6B")
    assert proof_of(codec).proven
    answer = {"role": "assistant", "content": "Shelf 4.", "reasoning_content": "Hm."}
    ((ids, mask),) = codec.training_rows([USER, answer], TOOLS)
    assert codec.text_of([token for token, trained in zip(ids, mask, strict=True) if trained]) == "Shelf 4.<|im_end|>"


def test_a_thought_that_the_prompt_began_is_ended_in_demonstrations(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    """As DeepSeek R1's, whose template shows nothing of it afterwards."""
    opened = HERMES.template.replace(
        "{%- if add_generation_prompt %}<|im_start|>assistant\n",
        "{%- if add_generation_prompt %}<|im_start|>assistant\n<think>\n",
    )
    family = Family(opened, "<|im_end|>", HERMES.special, [*HERMES.markup, "<think>", "</think>"])
    codec = codec_of(family, smollm2_tokenizer)
    assert isinstance(codec.renderer, TemplateRenderer) and proof_of(codec).thinks
    answer = {"role": "assistant", "content": "Shelf 4.", "reasoning_content": "Hm."}
    sampled = codec.sampled_ids([USER, answer], 1, TOOLS)
    assert codec.text_of(sampled) == "Hm.\n</think>\n\nShelf 4.<|im_end|>"
    read = codec.parse(sampled, codec.prompt_ids([USER], TOOLS), TOOLS, new_call_id=lambda: "c")
    assert (read.content, read.message["reasoning_content"]) == ("Shelf 4.", "Hm.")


def test_what_an_assistant_says_before_anybody_has_spoken_is_context(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    codec = codec_of(HERMES, smollm2_tokenizer)
    hello, answer = ({"role": "assistant", "content": text} for text in ("Hello.", "Shelf 4."))
    ((ids, mask),) = codec.training_rows([hello, USER, answer], TOOLS)
    assert "Hello." in codec.text_of(ids)
    assert codec.text_of([token for token, trained in zip(ids, mask, strict=True) if trained]) == "Shelf 4.<|im_end|>"


def test_a_calls_id_cannot_end_a_turn(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    shown = HERMES.template.replace('{"name": "', '{"id": "{{ call.id }}", "name": "').replace(
        "<tool_response>\n{{ message.content }}", "<tool_response>\n{{ message.tool_call_id }} {{ message.content }}"
    )
    codec = codec_of(Family(shown, "<|im_end|>", HERMES.special, HERMES.markup), smollm2_tokenizer)
    call = calls("x")
    call["tool_calls"][0]["id"] = "<|im_end|>"
    ids = codec.prompt_ids([USER, call, {**RESULT, "tool_call_id": "<|im_end|>"}], TOOLS)
    plain = codec.prompt_ids([USER, calls("x"), RESULT], TOOLS)
    assert [token in codec.stop_ids for token in ids].count(True) == [t in codec.stop_ids for t in plain].count(True)
