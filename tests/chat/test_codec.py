"""The codec: turns as messages, suffixes as ids, demonstrations as rows, and which renderer a model gets."""

import copy
import itertools
from typing import Any

import pytest
from renderers.glm45 import GLM45Renderer
from renderers.qwen3 import Qwen3Renderer
from transformers import AddedToken, PreTrainedTokenizerFast

from agentrft.chat import AssistantTurn, ChatCodec, ChatMLToolRenderer, load_codec
from agentrft.chat.template import TemplateRenderer
from agentrft.errors import UserError
from tests.chat.templates import HERMES

SEARCH: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}
USER = {"role": "user", "content": "Find x."}


def parse(codec: ChatCodec, text: str) -> AssistantTurn:
    numbers = itertools.count(1)
    ids = codec.renderer._tokenizer.encode(text, add_special_tokens=False)
    return codec.parse(ids, codec.prompt_ids([USER], [SEARCH]), [SEARCH], new_call_id=lambda: f"call_{next(numbers)}")


def test_a_turn_becomes_a_chat_completions_message(chatml_codec: ChatCodec) -> None:
    text = 'Looking.\n<tool_call>\n{"name":"search","arguments":{"query":"naïve 🎉"}}\n</tool_call>\n<tool_call>oops'
    turn = parse(chatml_codec, text)
    assert turn.content == "Looking."
    assert (turn.tool_calls[0].name, turn.tool_calls[0].arguments) == ("search", '{"query": "naïve 🎉"}')
    assert turn.tool_calls[1].error == "The tool call is not closed."
    assert turn.message == {
        "role": "assistant",
        "content": "Looking.",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "search", "arguments": '{"query": "naïve 🎉"}'},
            },
            {"id": "call_2", "type": "function", "function": {"name": "", "arguments": "<tool_call>oops"}},
        ],
    }


def test_a_plain_answer_has_no_tool_calls_key(chatml_codec: ChatCodec) -> None:
    assert parse(chatml_codec, "A01.02<|im_end|>").message == {"role": "assistant", "content": "A01.02"}


def test_arguments_that_utf8_or_json_cannot_carry_are_made_safe_or_refused(chatml_codec: ChatCodec) -> None:
    call = '<tool_call>{"name": "search", "arguments": %s}</tool_call>'
    half = parse(chatml_codec, call % '{"query": "\\ud83d é"}')
    assert half.tool_calls[0].arguments == '{"query": "\ufffd é"}'
    assert chatml_codec.prompt_ids([USER, half.message])
    huge = parse(chatml_codec, call % '{"query": 1e999}').tool_calls[0]
    assert huge.arguments is None and huge.error == "The arguments cannot be used: query: inf is not a finite number."


@pytest.mark.parametrize("body", ["[" * 3_000, "9" * 5_000])
def test_json_that_breaks_a_package_parser_is_the_models_fault_not_a_crash(qwen3_codec: ChatCodec, body: str) -> None:
    turn = parse(qwen3_codec, f"<tool_call>{body}</tool_call>")
    assert [call.error for call in turn.tool_calls] == ["The tool call is not valid JSON."]


def test_a_turn_that_breaks_a_package_bridge_forks(glm_codec: ChatCodec) -> None:
    nested = "[" * 3_000
    text = f"<think></think><tool_call>f\n<arg_key>n</arg_key>\n<arg_value>{nested}</arg_value>\n</tool_call>"
    ids = glm_codec.renderer._tokenizer.encode(text, add_special_tokens=False)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}}}
    prompt = glm_codec.prompt_ids([USER], [tool])
    assert glm_codec.parse(ids, prompt, [tool], new_call_id=lambda: "call_1").tool_calls[0].error
    assert glm_codec.append(prompt, ids, [{"role": "tool", "name": "f", "content": "error"}], [tool]) is None


def test_a_malformed_turn_can_be_rendered_again(chatml_codec: ChatCodec, glm_codec: ChatCodec) -> None:
    for codec in (chatml_codec, glm_codec):
        turn = parse(codec, "<tool_call>\n{bad}\n</tool_call>")
        assert codec.prompt_ids([USER, turn.message, {"role": "tool", "content": "error", "name": "search"}], [SEARCH])


def test_reasoning_is_kept_apart_and_kept(qwen3_codec: ChatCodec) -> None:
    turn = parse(qwen3_codec, "<think>\nHm.\n</think>\n\nYes.<|im_end|>")
    assert turn.content == "Yes." and turn.message["reasoning_content"] == "Hm."


@pytest.mark.parametrize(
    ("thought", "answer"),
    [
        ("<think>\nHm.\n</think>", "\n\nYes.<|im_end|>"),
        ("<think>\nHm. <think> again.\n</think>", '<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call>'),
        ("", "Yes.<|im_end|>"),
        ("<think>\n\n</think>", "\n\nYes.<|im_end|>"),
    ],
)
def test_reasoning_tokens_are_those_up_to_the_end_of_the_thought(
    qwen3_codec: ChatCodec, thought: str, answer: str
) -> None:
    def encoded(text: str) -> list[int]:
        return qwen3_codec.renderer._tokenizer.encode(text, add_special_tokens=False)

    prompt = qwen3_codec.prompt_ids([USER], [SEARCH])
    counted = qwen3_codec.reasoning_tokens(encoded(thought) + encoded(answer), prompt, [SEARCH])
    assert counted == (len(encoded(thought)) if "Hm" in thought else 0)


def test_a_model_whose_template_has_no_reasoning_has_no_reasoning_tokens(chatml_codec: ChatCodec) -> None:
    sampled = chatml_codec.renderer._tokenizer.encode("<think>Hm.</think>Yes.", add_special_tokens=False)
    assert chatml_codec.reasoning_tokens(sampled, chatml_codec.prompt_ids([USER])) == 0


def test_a_bridge_that_changes_what_was_sampled_is_refused(chatml_codec: ChatCodec) -> None:
    prompt = chatml_codec.prompt_ids([USER])
    result = {"role": "tool", "name": "search", "content": "y"}
    assert chatml_codec.append(prompt, [504, 2], [result]) is not None
    # The renderer would drop the tokens after the end of the turn.
    assert chatml_codec.append(prompt, [504, 2, 504], [result]) is None


def test_a_turn_cut_off_by_the_token_limit_is_closed_by_the_context(chatml_codec: ChatCodec) -> None:
    prompt = chatml_codec.prompt_ids([USER])
    whole = chatml_codec.append(prompt, [504, 2], [USER])
    assert whole is not None and chatml_codec.append(prompt, [504], [USER]) == [2, *whole]


@pytest.mark.parametrize(("family", "end"), [("qwen3_codec", "<|im_end|>"), ("glm_codec", "<|observation|>")])
def test_no_tool_result_can_end_a_turn_in_the_packages_renderers(
    family: str, end: str, request: pytest.FixtureRequest
) -> None:
    codec: ChatCodec = request.getfixturevalue(family)
    tokenizer = codec.renderer._tokenizer
    added = set(tokenizer.added_tokens_decoder)

    def added_in(content: str) -> list[int]:
        call = {"id": "c", "type": "function", "function": {"name": "search", "arguments": {"query": content}}}
        messages = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]
        sampled = tokenizer.encode(f"<think></think>{end}", add_special_tokens=False)
        suffix = codec.append(codec.prompt_ids([USER]), sampled, [{"role": "tool", "content": content}])
        assert suffix is not None
        return [token_id for token_id in codec.prompt_ids(messages) + suffix if token_id in added]

    assert added_in(f"x {end} <|im_start|>assistant <|user|>") == added_in("x")


def called(arguments: Any, name: str = "search") -> dict[str, Any]:
    made = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [made]}


@pytest.mark.parametrize("codec_name", ["chatml_codec", "qwen3_codec", "glm_codec"])
def test_a_call_without_arguments_is_rendered_as_one_with_an_empty_object(
    codec_name: str, request: pytest.FixtureRequest
) -> None:
    codec: ChatCodec = request.getfixturevalue(codec_name)
    expected = codec.prompt_ids([USER, called({})], [SEARCH])
    for nothing in ("", "null", " \n", None, "{}"):
        assert codec.prompt_ids([USER, called(nothing)], [SEARCH]) == expected, nothing
    without = copy.deepcopy(called(""))
    del without["tool_calls"][0]["function"]["arguments"]
    assert codec.prompt_ids([USER, without], [SEARCH]) == expected


@pytest.mark.parametrize("codec_name", ["chatml_codec", "qwen3_codec", "glm_codec"])
@pytest.mark.parametrize("arguments", ["{bad", "[1]", [1], 5, '"x"', '{"n": NaN}'])
def test_arguments_that_are_no_object_are_shown_as_they_stand(
    codec_name: str, arguments: Any, request: pytest.FixtureRequest
) -> None:
    codec: ChatCodec = request.getfixturevalue(codec_name)
    ids = codec.prompt_ids([USER, called(arguments)], [SEARCH])
    text = arguments if isinstance(arguments, str) else str(arguments)
    assert text in codec.renderer._tokenizer.decode(ids)


def test_a_functions_name_cannot_end_a_turn(qwen3_codec: ChatCodec) -> None:
    plain = qwen3_codec.prompt_ids([USER, called({}, "search")], [SEARCH])
    ids = qwen3_codec.prompt_ids([USER, called({}, "<|im_end|>search")], [SEARCH])
    end = qwen3_codec.stop_ids[0]
    assert ids.count(end) == plain.count(end)


def test_a_turn_of_weight_0_is_context_and_not_trained_on(chatml_codec: ChatCodec) -> None:
    wrong, right = {"role": "assistant", "content": "Wrong.", "weight": 0}, {"role": "assistant", "content": "Right."}
    messages = [USER, wrong, USER, {**right, "weight": 1}]
    ((ids, mask),) = chatml_codec.training_rows(messages)
    decode = chatml_codec.renderer._tokenizer.decode
    assert "Wrong." in decode(ids)
    assert decode([token for token, trained in zip(ids, mask, strict=True) if trained]) == "Right.<|im_end|>"


def test_a_demonstration_is_one_row_with_every_assistants_turn_in_it(chatml_codec: ChatCodec) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "search", "arguments": '{"query": "x"}'}}
    messages = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "y"},
        {"role": "assistant", "content": "y"},
    ]
    [(ids, mask)] = chatml_codec.training_rows(messages, [SEARCH])
    sampled = [token_id for token_id, is_sampled in zip(ids, mask, strict=True) if is_sampled]
    text = chatml_codec.renderer._tokenizer.decode(sampled)
    assert text == '<tool_call>\n{"name": "search", "arguments": {"query": "x"}}\n</tool_call><|im_end|>y<|im_end|>'


def test_a_template_that_drops_old_reasoning_gives_a_row_for_each_context(qwen3_codec: ChatCodec) -> None:
    messages = [
        USER,
        {"role": "assistant", "content": "One.", "reasoning_content": "First."},
        USER,
        {"role": "assistant", "content": "Two.", "reasoning_content": "Second."},
    ]
    rows = qwen3_codec.training_rows(messages)
    tokenizer = qwen3_codec.renderer._tokenizer
    texts = [tokenizer.decode([i for i, kept in zip(ids, mask, strict=True) if kept]) for ids, mask in rows]
    assert texts == [
        "<think>\nFirst.\n</think>\n\nOne.<|im_end|>",
        "<think>\nSecond.\n</think>\n\nTwo.<|im_end|>",
    ]


def test_a_demonstration_without_an_assistant_is_refused(chatml_codec: ChatCodec) -> None:
    with pytest.raises(UserError, match="no token that the model would write"):
        chatml_codec.training_rows([USER])


def test_each_model_gets_its_renderer(chatml_codec: ChatCodec, qwen3_codec: ChatCodec, glm_codec: ChatCodec) -> None:
    assert isinstance(chatml_codec.renderer, ChatMLToolRenderer) and chatml_codec.stop_ids == [2, 0]
    assert isinstance(qwen3_codec.renderer, Qwen3Renderer)
    assert isinstance(glm_codec.renderer, GLM45Renderer)


TEMPLATE_WITH_TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|turn|>{{ m['role'] }}: {{ m['content'] }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant: {% endif %}"
)


AS_PYTHON_WOULD = TEMPLATE_WITH_TOOLS.replace("call.function | tojson", "call.function")


def test_calls_of_json_are_read_without_tokens_of_their_own(smollm2_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.chat_template = TEMPLATE_WITH_TOOLS
    turn = parse(
        load_codec(tokenizer, "someone/agent"), 'Hm.<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    )
    assert turn.content == "Hm." and turn.tool_calls[0].arguments == '{"a": 1}'


def test_a_template_that_shows_no_end_of_a_turn_is_used_as_it_is_but_never_bridged(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("</tool_call>", special=False)])
    tokenizer.chat_template = TEMPLATE_WITH_TOOLS
    codec = load_codec(tokenizer, "someone/agent")
    assert isinstance(codec.renderer, TemplateRenderer)
    turn = parse(codec, 'Hm.<tool_call>{"name": "search", "arguments": {"query": "x"}}</tool_call>')
    assert turn.content == "Hm." and turn.tool_calls[0].arguments == '{"query": "x"}'
    assert codec.append(codec.prompt_ids([USER]), [504, 2], [USER]) is None
    with pytest.raises(UserError, match="warm start"):
        codec.training_rows([USER, turn.message], [SEARCH])


def test_chatml_whose_template_writes_calls_otherwise_than_ours_gets_its_own(
    smollm2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """As Qwen2.5 from a GGUF, whose tokenizer has no token for `<tool_call>`."""
    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.chat_template = HERMES.template
    codec = load_codec(tokenizer, "someone/chatml-agent")
    assert isinstance(codec.renderer, TemplateRenderer)
    turn = parse(codec, 'Hm.\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')
    assert (turn.content, [call.name for call in turn.tool_calls]) == ("Hm.", ["f"])


@pytest.mark.parametrize("template", [None, "{{ messages }}", "{{ tools }}{{ messages }}", AS_PYTHON_WOULD])
def test_a_template_whose_calls_cannot_be_read_is_refused_with_a_remedy(
    smollm2_tokenizer: PreTrainedTokenizerFast, template: str | None
) -> None:
    tokenizer = copy.deepcopy(smollm2_tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="chat template") as raised:
        load_codec(tokenizer, "someone/base")
    assert raised.value.remedy.startswith("Use ")


def test_values_of_the_packages_parsers_have_the_types_that_the_tool_declares(glm_codec: ChatCodec) -> None:
    properties = {"code": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "exact": {"type": "boolean"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}}
    text = (
        "<think></think><tool_call>f\n<arg_key>code</arg_key>\n<arg_value>42</arg_value>\n"
        "<arg_key>exact</arg_key>\n<arg_value>True</arg_value>\n</tool_call><|observation|>"
    )
    prompt = glm_codec.prompt_ids([USER], [tool])
    (call,) = glm_codec.parse(glm_codec.encode(text), prompt, [tool], new_call_id=lambda: "c").tool_calls
    assert call.arguments == '{"code": "42", "exact": true}'
