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
