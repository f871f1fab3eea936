"""An exported model's chat template gives other programs the very prompt that the policy was trained on."""

import json
from importlib.resources import files
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder

SEARCH = {
    "name": "search",
    "description": 'Finds <things> & \u00fcber "quotes".',
    "parameters": {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "minimum": 1},
            "kind": {"enum": ["a", "b"]},
        },
        "required": ["query"],
    },
}
PLAIN = {"name": "now", "parameters": {"type": "object", "properties": {}}}
UNUSUAL = {"name": "pick", "parameters": {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {}}}}
ALL_REQUIRED = {
    "name": "move",
    "parameters": {
        "type": "object",
        "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
        "required": ["y", "x"],
    },
}
TOOLS = [{"type": "function", "function": one} for one in (SEARCH, PLAIN, UNUSUAL, ALL_REQUIRED)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    loaded = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    loaded.chat_template = (files("agentrft.chat") / "chatml.jinja").read_text(encoding="utf-8")
    return loaded


@pytest.fixture(scope="module")
def codec(tokenizer: PreTrainedTokenizerFast) -> ChatCodec:
    return load_codec(tokenizer, "exported")


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "Which one?\n\nThe  second."}
SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS = {
    "a question": [USER],
    "a system message": [SYSTEM, USER],
    "an empty system message": [{"role": "system", "content": ""}, USER],
    "a developer": [{"role": "developer", "content": "Be brief."}, USER],
    "calls and results": [
        SYSTEM,
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call("search", {"query": "\u00e9t\u00e9", "limit": 2})]},
        {"role": "tool", "tool_call_id": "call_search", "name": "search", "content": "found\nit"},
        {
            "role": "assistant",
            "content": "Two more.",
            "tool_calls": [call("now", {}), call("move", {"y": 1, "x": 2.5})],
        },
        {"role": "tool", "tool_call_id": "call_now", "name": "now", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_move", "name": "move", "content": ""},
    ],
    "calls without arguments": [
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                call("now", ""),
                call("now", "null"),
                call("now", " \n"),
                call("now", None),
                call("now", {}),
            ],
        },
        {"role": "tool", "tool_call_id": "call_now", "name": "now", "content": "noon"},
    ],
    "a call that has no arguments at all": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "now"}}]},
    ],
    "arguments as text": [
        USER,
        {
            "role": "assistant",
            "content": "So:",
            "tool_calls": [call("search", '{"query": "\u00e9t\u00e9", "limit": 2}')],
        },
    ],
    "arguments that are no object": [
        USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call("search", '{"query": '), call("search", "[1, 2]"), call("search", [1, 2])],
        },
    ],
    "calls that the model wrote wrong": [
        USER,
        {
            "role": "assistant",
            "content": "Well.",
            "tool_calls": [
                call("now", {}),
                call("", "<tool_call>\n{bad\n"),
                call("", "<tool_call>\n{worse</tool_call>"),
                call("now", {}),
                call("", '<tool_call>\n{"name": "now'),
            ],
        },
    ],
    "a name": [{**USER, "name": "Ann"}],
    "an earlier answer": [USER, {"role": "assistant", "content": "That one."}, USER],
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
@pytest.mark.parametrize("tools", [TOOLS, TOOLS[:1], []], ids=["tools", "a tool", "no tools"])
def test_the_template_renders_what_the_codec_renders(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast, codec: ChatCodec
) -> None:
    expected = codec.prompt_ids(json.loads(json.dumps(messages)), tools)
    rendered = tokenizer.apply_chat_template(messages, tools=tools or None, add_generation_prompt=True, tokenize=False)
    assert rendered == tokenizer.decode(expected)
    assert tokenizer(rendered, add_special_tokens=False)["input_ids"] == expected


def test_text_parts_are_joined_as_requests_join_them(tokenizer: PreTrainedTokenizerFast, codec: ChatCodec) -> None:
    parts = [{"type": "text", "text": "Which"}, {"type": "text", "text": "one?"}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}, {"role": "assistant", "content": []}], tokenize=False
    )
    assert rendered == "<|im_start|>user\nWhich\none?<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"


def test_what_the_model_wrote_wrong_comes_back_as_the_tokens_that_it_wrote(codec: ChatCodec) -> None:
    prompt = codec.prompt_ids([USER], TOOLS)
    broken = [
        "<tool_call>\n{bad}\n</tool_call>",
        '<tool_call>\n{"name": "search", "arguments": "x"}\n</tool_call>',
        '<tool_call>\n{"arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "sea',
        'Well.\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n<tool_call>\n[1]\n</tool_call>',
        '<tool_call>\n{"a\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    ]
    for text in broken:
        sampled = codec.renderer._encode(text)  # type: ignore[attr-defined]  # how the model would have sampled it
        message = codec.parse(sampled, prompt, TOOLS, new_call_id=lambda: "c").message
        again = codec.prompt_ids([USER, json.loads(json.dumps(message)), USER], TOOLS)
        assert again[: len(prompt) + len(sampled)] == [*prompt, *sampled], text
