"""A call that cannot be read is answered with what is wrong with it, in every family, and the rollout goes on."""

import pytest

from agentrft.chat import load_codec
from tests.models_chat.conversations import TOOLS
from tests.models_chat.families import FAMILIES

USER = {"role": "user", "content": "Where is it?"}
BROKEN = {
    "Qwen3-Coder": ("<tool_call>\n<function=search>\n<parameter=query>\nx", "The tool call is not closed."),
    "FunctionGemma": (
        "<start_function_call>call:search{query}<end_function_call>",
        "The arguments of the tool call cannot be read.",
    ),
    "Mistral 11": ("[TOOL_CALLS]search[ARGS]{query}", "The tool call is not valid JSON."),
    "Kimi K2": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>[1]<|tool_call_end|>",
        "The tool call must be an object with a name and an arguments object.",
    ),
    "SmolLM3": ("<tool_call>{}</tool_call>", "The tool call has no function name."),
    "Granite 3": ('<|tool_call|>[{"name": "search"', "The tool call is not valid JSON."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_model_is_told_what_is_wrong_and_goes_on_in_its_row(name: str) -> None:
    family = next(one for one in FAMILIES if one.name == name)
    tokenizer = family.tokenizer()
    assert tokenizer is not None
    codec = load_codec(tokenizer, name)
    text, error = BROKEN[name]
    prompt = codec.prompt_ids([USER], TOOLS)
    sampled = [*codec.encode(text), codec.stop_ids[0]]
    turn = codec.parse(sampled, prompt, TOOLS, new_call_id=lambda: "call_1")
    assert [call.error for call in turn.tool_calls] == [error]
    told = {"role": "tool", "tool_call_id": "call_1", "name": "search", "content": error}
    assert codec.prompt_ids([USER, turn.message, told], TOOLS), "it can be shown again"
    suffix = codec.append(prompt, sampled, [told], TOOLS)
    assert suffix is None or error in codec.text_of(suffix)
