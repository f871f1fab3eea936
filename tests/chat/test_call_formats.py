"""Calls as each family writes them: read back, and whatever else a model writes is text or a call with a fault."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from renderers.base import ToolCallParseStatus

from agentrft.chat.call_formats import Hermes, TurnFormat
from agentrft.chat.call_formats.gemma import FUNCTION_GEMMA, GEMMA_4
from agentrft.chat.call_formats.harmony import Harmony
from agentrft.chat.call_formats.json_calls import PHI_4, CallFormat
from agentrft.chat.call_formats.named import DEEPSEEK, KIMI, MISTRAL
from agentrft.chat.call_formats.pythonic import LFM2
from agentrft.chat.call_formats.values import typed
from agentrft.chat.call_formats.xml import ArgumentTags, FunctionTags

OK, JSON = ToolCallParseStatus.OK, ToolCallParseStatus.INVALID_JSON
UNCLOSED, NAMELESS = ToolCallParseStatus.UNCLOSED_BLOCK, ToolCallParseStatus.MISSING_NAME
MALFORMED = ToolCallParseStatus.MALFORMED_STRUCTURE
LLAMA = CallFormat("", "", "name", "parameters")
BAR, LOW = "\uff5c", "\u2581"  # as DeepSeek's tokens have them


def deepseek(text: str) -> str:
    return text.replace("|", BAR).replace("_", LOW)


TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "string"},
                    "n": {"type": "integer"},
                    "yes": {"type": "boolean"},
                    "some": {"type": "array"},
                },
            },
        },
    }
]
FORMS: dict[str, TurnFormat] = {
    "qwen3.5": FunctionTags(),
    "glm": ArgumentTags(),
    "gemma 4": GEMMA_4,
    "functiongemma": FUNCTION_GEMMA,
    "deepseek": DEEPSEEK,
    "kimi": KIMI,
    "mistral": MISTRAL,
    "lfm2": LFM2,
    "harmony": Harmony(),
    "llama": LLAMA,
    "phi-4-mini": PHI_4,
    "ours": Hermes(),
}
# f(a="7 b", n=7) and then f().
WRITTEN = {
    "qwen3.5": "<tool_call>\n<function=f>\n<parameter=a>\n7 b\n</parameter>\n<parameter=n>\n7\n</parameter>\n"
    "</function>\n</tool_call>\n<tool_call>\n<function=f>\n</function>\n</tool_call>",
    "glm": "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>7 b</arg_value>\n<arg_key>n</arg_key>\n<arg_value>7"
    "</arg_value>\n</tool_call>\n<tool_call>f\n</tool_call>",
    "gemma 4": '<|tool_call>call:f{a:<|"|>7 b<|"|>,n:7}<tool_call|><|tool_call>call:f{}<tool_call|>',
    "functiongemma": "<start_function_call>call:f{a:<escape>7 b<escape>,n:7}<end_function_call>"
    "<start_function_call>call:f{}<end_function_call>",
    "deepseek": deepseek(
        "<|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>f\n```json\n"
        '{"a": "7 b", "n": 7}\n```<|tool_call_end|>\n'
        "<|tool_call_begin|>f<|tool_sep|>{}<|tool_call_end|><|tool_calls_end|>"
    ),
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
    '{"a": "7 b", "n": 7}<|tool_call_end|><|tool_call_begin|>functions.f:1<|tool_call_argument_begin|>{}'
    "<|tool_call_end|><|tool_calls_section_end|>",
    "mistral": '[TOOL_CALLS]f[ARGS]{"a": "7 b", "n": 7}[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}',
    "lfm2": "<|tool_call_start|>[f(a='7 b', n=7), f()]<|tool_call_end|>",
    "harmony": '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": "7 b", "n": 7}<|call|>'
    "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
    "llama": '<|python_tag|>{"name": "f", "parameters": {"a": "7 b", "n": 7}}; {"name": "f", "arguments": {}}',
    "phi-4-mini": '<|tool_call|>[{"name": "f", "arguments": {"a": "7 b", "n": 7}}, {"name": "f", "arguments": {}}]'
    "<|/tool_call|>",
    "ours": '<tool_call>\n{"name": "f", "arguments": {"a": "7 b", "n": 7}}\n</tool_call>\n'
    '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
}


@pytest.mark.parametrize("family", FORMS)
def test_calls_are_read_back(family: str) -> None:
    content, calls = FORMS[family].read(WRITTEN[family], TOOLS)
    assert content == ""
    assert [(one.name, one.arguments, one.status) for one in calls] == [("f", {"a": "7 b", "n": 7}, OK), ("f", {}, OK)]


@pytest.mark.parametrize("family", [family for family in FORMS if family != "harmony"])
def test_what_is_said_before_them_is_content(family: str) -> None:
    content, calls = FORMS[family].read("Let me see.\n" + WRITTEN[family], TOOLS)
    assert (content, len(calls)) == ("Let me see.", 2)


def test_harmonys_final_message_and_its_words_before_a_call_are_content_and_its_thoughts_are_not() -> None:
    call = "<|start|>assistant" + WRITTEN["harmony"]
    said = "<|channel|>commentary<|message|>Let me see.<|end|>"
    thought = "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
    content, calls = Harmony().read(said + thought + call)
    assert (content, len(calls)) == ("Let me see.", 2)
    assert Harmony().read("<|channel|>final<|message|>There.<|return|>") == ("There.", [])


@pytest.mark.parametrize("family", FORMS)
@pytest.mark.parametrize("text", ["", "There.", "{", "[1]", "to=f", "<", "a\n\nb "])
def test_text_without_calls_stays_as_it_is(family: str, text: str) -> None:
    if family == "harmony" and "to=" in text:
        return  # a recipient without a message is half a call
    assert FORMS[family].read(text, TOOLS) == (text, [])


@pytest.mark.parametrize(
    ("family", "text", "name", "status"),
    [
        ("qwen3.5", "<tool_call>\n<function=f>\n<parameter=a>", "f", UNCLOSED),
        ("qwen3.5", "<tool_call>\n</tool_call>", None, MALFORMED),
        ("qwen3.5", "<tool_call>\n<function=>\n</function>\n</tool_call>", None, NAMELESS),
        ("qwen3.5", "<tool_call>\n<function=f>\n<parameter=a>1</function>\n</tool_call>", "f", MALFORMED),
        ("qwen3.5", '<tool_call>\n{"name": "f"}\n</tool_call>', None, MALFORMED),
        ("glm", "<tool_call>f\n<arg_key>a</arg_key>", "f", UNCLOSED),
        ("glm", "<tool_call>\n</tool_call>", None, NAMELESS),
        ("glm", "<tool_call>f\n<arg_key>a</arg_key>\n</tool_call>", "f", MALFORMED),
        ("glm", "<tool_call>f\n<arg_value>a</arg_value>\n</tool_call>", None, MALFORMED),
        ("gemma 4", "<|tool_call>call:f{a:", None, UNCLOSED),
        ("gemma 4", "<|tool_call>f<tool_call|>", None, MALFORMED),
        ("gemma 4", '<|tool_call>call:f{a:<|"|>1}<tool_call|>', "f", JSON),
        ("gemma 4", "<|tool_call>call:f{a 1}<tool_call|>", "f", JSON),
        ("gemma 4", "<|tool_call>call:{}<tool_call|>", None, NAMELESS),
        ("gemma 4", "<|tool_call>call:f{a:" + "[" * 5_000 + "}<tool_call|>", "f", JSON),
        ("deepseek", deepseek("<|tool_call_begin|>f<|tool_sep|>{}"), "f", UNCLOSED),
        ("deepseek", deepseek("<|tool_call_begin|>f<|tool_call_end|>"), None, MALFORMED),
        ("deepseek", deepseek("<|tool_call_begin|>f<|tool_sep|>{a}<|tool_call_end|>"), "f", JSON),
        ("deepseek", deepseek("<|tool_call_begin|>f<|tool_sep|>[1]<|tool_call_end|>"), "f", MALFORMED),
        ("kimi", "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{", "f", UNCLOSED),
        ("kimi", "<|tool_call_begin|>:0<|tool_call_argument_begin|>{}<|tool_call_end|>", None, NAMELESS),
        ("mistral", "[TOOL_CALLS]f[ARGS]{", "f", JSON),
        ("mistral", "[TOOL_CALLS]f", None, UNCLOSED),
        ("lfm2", "<|tool_call_start|>[f(", None, UNCLOSED),
        ("lfm2", "<|tool_call_start|>[f(a=)]<|tool_call_end|>", None, JSON),
        ("lfm2", "<|tool_call_start|>[f('a')]<|tool_call_end|>", "f", MALFORMED),
        ("lfm2", "<|tool_call_start|>[f(a=g())]<|tool_call_end|>", None, JSON),
        ("lfm2", "<|tool_call_start|>[]<|tool_call_end|>", None, MALFORMED),
        ("lfm2", "<|tool_call_start|>" + "(" * 500 + "<|tool_call_end|>", None, JSON),
        ("harmony", "<|channel|>commentary to=functions.f<|message|>{", "f", JSON),
        ("harmony", "<|channel|>commentary to=functions.f<|message|>[1]<|call|>", "f", MALFORMED),
        ("harmony", "<|channel|>commentary to=functions.f", None, UNCLOSED),
        ("llama", "<|python_tag|>import os", None, JSON),
        ("llama", '{"name": "f", "parameters": {', None, JSON),
        ("phi-4-mini", '<|tool_call|>[{"name": "f"', None, UNCLOSED),
    ],
)
def test_a_call_that_cannot_be_made_says_what_it_lacks(
    family: str, text: str, name: str | None, status: ToolCallParseStatus
) -> None:
    _, (call,) = FORMS[family].read(text, TOOLS)
    assert (call.name, call.status) == (name, status)


def test_a_builtin_tool_of_llama_is_called_as_python_calls() -> None:
    _, (call,) = LLAMA.read('<|python_tag|>brave_search.call(query="a b")')
    assert (call.name, call.arguments) == ("brave_search", {"query": "a b"})


def test_qwens_calls_are_read_without_their_outer_tags() -> None:
    _, (call,) = FunctionTags().read("<function=f>\n<parameter=a>\nx\n</parameter>\n</function>", TOOLS)
    assert (call.name, call.arguments) == ("f", {"a": "x"})


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("7", {"type": "string"}, "7"),
        ("7", {"type": "integer"}, 7),
        ("7", None, 7),
        ("7", {}, 7),
        ("seven", {"type": "integer"}, "seven"),
        ("True", {"type": "boolean"}, True),
        ("true", {"type": "boolean"}, True),
        ("None", {"type": ["integer", "null"]}, None),
        ("true", {"type": ["string", "null"]}, "true"),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("7", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, 7),
        ("7", {"enum": ["7", "8"]}, "7"),
        ("7", {"enum": [7, 8]}, 7),
        ("7.5", {"type": "number"}, 7.5),
        ('["a"]', {"type": "array"}, ["a"]),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("x y", None, "x y"),
        ("NaN", {"type": "number"}, "NaN"),
        ("[" * 5_000, {"type": "array"}, "[" * 5_000),
        (" 7 ", {"type": "string"}, " 7 "),
    ],
)
def test_a_value_without_quotes_is_what_its_schema_declares(text: str, schema: Any, value: Any) -> None:
    read = typed(text, schema)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("family", FORMS)
def test_a_call_within_the_text_of_an_argument_is_text(family: str) -> None:
    if family not in ("llama", "phi-4-mini", "ours", "deepseek", "kimi", "mistral"):
        return  # no quotes, no telling
    text = WRITTEN[family].replace("7 b", "</tool_call> <|/tool_call|> [ARGS] {")
    _, calls = FORMS[family].read(text, TOOLS)
    assert calls[0].arguments == {"a": "</tool_call> <|/tool_call|> [ARGS] {", "n": 7}


PIECES = sorted({piece for text in WRITTEN.values() for piece in text.replace("<", "\0<").split("\0") if piece})


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join))
@settings(max_examples=300)
def test_nothing_that_is_written_raises(text: str) -> None:
    for form in FORMS.values():
        content, calls = form.read(text, TOOLS)
        assert isinstance(content, str) and all(one.raw is not None for one in calls)
