"""Tool calls as text, in Hermes' style: the tools as the model is told of them, its calls written and read back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.call_arguments import ArgumentsError, read_arguments

OPENING = "<tool_call>"
CLOSING = "</tool_call>"

INSTRUCTION = 'Call tools as <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>. Tools:'

# What a compact description may leave out of a parameter schema without losing anything a model needs to know.
_PLAIN_SCHEMA_KEYS = {"type", "properties", "required", "additionalProperties", "title", "$schema"}


def describe_tools(tools: Iterable[Mapping[str, Any]], instruction: str = INSTRUCTION) -> str:
    """The system message's part on tools: an instruction, then one line of compact JSON per function.

    Takes Chat Completions specs, or their `function` objects alone. In a plain object schema only the properties
    are shown (`{"query":"string"}`), with `required` where some are optional; any other schema is shown whole.
    """
    return "\n".join([instruction, *(_describe(tool.get("function", tool)) for tool in tools)])


def _describe(function: Mapping[str, Any]) -> str:
    line = {"name": function["name"]}
    if function.get("description"):
        line["description"] = function["description"]
    schema = function.get("parameters") or {}
    if not set(schema) <= _PLAIN_SCHEMA_KEYS:
        line["parameters"] = schema
    else:
        properties = schema.get("properties") or {}
        line["parameters"] = {name: _describe_property(value) for name, value in properties.items()}
        required = schema.get("required", [])
        if set(required) != set(properties):
            line["required"] = required
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def _describe_property(schema: Any) -> Any:
    if isinstance(schema, dict) and set(schema) <= {"type", "title"} and isinstance(schema.get("type"), str):
        return schema["type"]
    return schema


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """The canonical text of one call; several follow one another, each on a new line."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPENING}\n{body}\n{CLOSING}"


def call_object(function: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call in a conversation; None where they are no object or nobody is called, so that the call
    can only be shown as it was written.
    """
    try:
        arguments = read_arguments(function.get("arguments"), lossy=True)
    except ArgumentsError:
        return None
    return arguments if function["name"] or not arguments else None


def given_text(function: Mapping[str, Any]) -> str:
    """The arguments of such a call, as they stand. Of a call that a model wrote wrong, that is the whole of it."""
    arguments = function["arguments"]
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def write_given_call(function: Mapping[str, Any]) -> str:
    """The text of any call: canonical where its arguments are an object, else as it was written."""
    arguments = call_object(function)
    if arguments is not None:
        return write_call(function["name"], arguments)
    text = given_text(function)
    if text.startswith(OPENING):
        return text
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'{OPENING}\n{{"name": {name}, "arguments": {text}}}\n{CLOSING}'


def join_calls(content: str, calls: Iterable[str]) -> str:
    """A turn's whole text. A call that was not closed may end in the line break before the next one."""
    text = content
    for number, call in enumerate(calls):
        is_broken = number > 0 and text.endswith("\n")
        text += f"\n{call}" if text and not is_broken else call
    return text


def read_calls(text: str) -> tuple[str, list[ParsedToolCall]]:
    """The text outside the calls, and every attempted call in order, with its status.

    `raw` of a call is its whole text, delimiters included. Text written by `write_call` after any content and a
    newline is read back as exactly that content and those calls.
    """
    outside: list[str] = []
    calls: list[ParsedToolCall] = []
    position = 0
    while (start := text.find(OPENING, position)) >= 0:
        outside.append(text[position:start])
        call, position = _read_call(text, start)
        calls.append(call)
    outside.append(text[position:])
    first, *rest = outside
    if rest:
        first = first.removesuffix("\n")
    remarks = [part.strip() for part in rest if part.strip()]
    return "\n".join([*([first] if first else []), *remarks]), calls


def _read_call(text: str, start: int) -> tuple[ParsedToolCall, int]:
    """The call that opens at `start`, and where it ends."""
    body = skip_whitespace(text, start + len(OPENING))
    try:
        value, end = DECODER.raw_decode(text, body)
    # RecursionError: a model can nest brackets deeper than Python's JSON decoder goes.
    except (ValueError, RecursionError):
        pass
    else:
        # Reading the JSON first lets arguments hold the text of a delimiter.
        end = skip_whitespace(text, end)
        if text.startswith(CLOSING, end):
            end += len(CLOSING)
            return _judge(value, text[start:end]), end
    closing = text.find(CLOSING, body)
    reopening = text.find(OPENING, body)
    if closing < 0 or 0 <= reopening < closing:
        end = reopening if reopening >= 0 else len(text)
        return ParsedToolCall(text[start:end], status=ToolCallParseStatus.UNCLOSED_BLOCK), end
    end = closing + len(CLOSING)
    return ParsedToolCall(text[start:end], status=ToolCallParseStatus.INVALID_JSON), end


def _judge(value: Any, raw: str) -> ParsedToolCall:
    if not isinstance(value, dict):
        return ParsedToolCall(raw, status=ToolCallParseStatus.MALFORMED_STRUCTURE)
    name, arguments = value.get("name"), value.get("arguments", {})
    if not isinstance(name, str) or not name:
        return ParsedToolCall(raw, arguments=arguments, status=ToolCallParseStatus.MISSING_NAME)
    if not isinstance(arguments, dict):
        return ParsedToolCall(raw, name=name, status=ToolCallParseStatus.MALFORMED_STRUCTURE)
    return ParsedToolCall(raw, name=name, arguments=arguments)


def skip_whitespace(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
