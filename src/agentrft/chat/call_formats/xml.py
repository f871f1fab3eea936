"""Calls as tags: Qwen3-Coder, Qwen3.5 and Nemotron 3 (`<function=f>`), GLM-4.5 and its successors (`<arg_key>`)."""

import re
from dataclasses import dataclass

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.chat.call_formats.base import Calls, Tools, attempt, blocks, call, failed
from agentrft.chat.call_formats.values import declared, typed

_FUNCTION = re.compile(r"\s*<function=([^>\n]*)>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]*)>")
_PARAMETER_END = "</parameter>"
_KEY = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>", re.DOTALL)
_VALUE_END = "</arg_value>"


@dataclass(frozen=True)
class FunctionTags:
    """`<tool_call><function=f><parameter=a>1</parameter></function></tool_call>`."""

    label: str = "XML: <tool_call><function=NAME><parameter=KEY>"

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        opening, closing = "<tool_call>", "</tool_call>"
        if opening not in text and "<function=" in text:  # models leave the outer tags out now and then
            opening, closing = "<function=", "</function>"
        found = [
            (
                begin,
                end,
                self._one(text[begin:end], body if opening == "<tool_call>" else f"<function={body}", closed, tools),
            )
            for begin, end, body, closed in blocks(text, opening, closing)
        ]
        return attempt(text, found)

    def _one(self, raw: str, body: str, closed: bool, tools: Tools) -> ParsedToolCall:
        head = _FUNCTION.match(body)
        name = head[1].strip() if head else None
        if not closed:
            return failed(raw, ToolCallParseStatus.UNCLOSED_BLOCK, name)
        if head is None:
            return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE)
        schemas, arguments, place = declared(tools, head[1].strip()), {}, head.end()
        while parameter := _PARAMETER.match(body, place):
            end = body.find(_PARAMETER_END, parameter.end())
            if end < 0:
                return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE, name)
            key = parameter[1].strip()
            arguments[key] = typed(_inside(body[parameter.end() : end]), schemas.get(key))
            place = end + len(_PARAMETER_END)
        if body[place:].strip() not in ("", "</function>"):
            return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE, name)
        return call(raw, name or "", arguments)


@dataclass(frozen=True)
class ArgumentTags:
    """`<tool_call>f\\n<arg_key>a</arg_key>\\n<arg_value>1</arg_value>\\n</tool_call>`."""

    label: str = "XML: <tool_call>NAME<arg_key>KEY</arg_key><arg_value>"

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        found = [
            (begin, end, self._one(text[begin:end], body, closed, tools))
            for begin, end, body, closed in blocks(text, "<tool_call>", "</tool_call>")
        ]
        return attempt(text, found)

    def _one(self, raw: str, body: str, closed: bool, tools: Tools) -> ParsedToolCall:
        place = body.find("<arg_key>")
        name = (body if place < 0 else body[:place]).strip()
        if not closed:
            return failed(raw, ToolCallParseStatus.UNCLOSED_BLOCK, name)
        if "<" in name or "\n" in name:
            return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE)
        schemas, arguments = declared(tools, name), {}
        place = len(body) if place < 0 else place
        while argument := _KEY.match(body, place):
            end = body.find(_VALUE_END, argument.end())
            if end < 0:
                return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE, name)
            key = argument[1].strip()
            arguments[key] = typed(body[argument.end() : end], schemas.get(key))
            place = end + len(_VALUE_END)
        if body[place:].strip():
            return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE, name)
        return call(raw, name, arguments)


def _inside(text: str) -> str:
    """A value without the line breaks that set it off from its tags."""
    return text.removeprefix("\n").removesuffix("\n")
