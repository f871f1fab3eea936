"""Calls whose name stands before their JSON: DeepSeek, Kimi K2, and Mistral since its version 11."""

import re
from dataclasses import dataclass

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.chat.call_formats.base import Calls, Tools, attempt, call, failed
from agentrft.chat.hermes import DECODER, skip_whitespace

_FENCE = re.compile(r"\s*```(?:json)?\s*")
_KIMI_ID = re.compile(r"(?:functions\.)?(.*?)(?::\d+)?")
_MISTRAL_ID = "[CALL_ID]"


@dataclass(frozen=True)
class NamedJson:
    """`OPENING name SEPARATOR {json} CLOSING`, one after another.

    Attributes:
        label: for people.
        opening, separator, closing: of each call; without a `closing` a call ends with its JSON.
        around: what stands before the first and after the last, and is no content.
        is_id: what stands before the separator is a call's id, `functions.NAME:NUMBER`.
    """

    label: str
    opening: str
    separator: str
    closing: str = ""
    around: tuple[str, ...] = ()
    is_id: bool = False

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        found: list[tuple[int, int, ParsedToolCall]] = []
        place = text.find(self.opening)
        while place >= 0:
            one, end = self._one(text, place)
            found.append((place, end, one))
            place = text.find(self.opening, end)
        content, calls = attempt(text, found)
        if calls:
            for mark in self.around:
                content = content.replace(mark, "")
            content = content.strip("\n")
        return content, calls

    def _one(self, text: str, start: int) -> tuple[ParsedToolCall, int]:
        begin = start + len(self.opening)
        again = text.find(self.opening, begin)
        limit = again if again >= 0 else len(text)
        separator = text.find(self.separator, begin, limit)
        if separator < 0:
            closing = text.find(self.closing, begin, limit) if self.closing else -1
            if closing >= 0:
                end = closing + len(self.closing)
                return failed(text[start:end], ToolCallParseStatus.MALFORMED_STRUCTURE), end
            return failed(text[start:limit], ToolCallParseStatus.UNCLOSED_BLOCK), limit
        name, native = self._name(text[begin:separator])
        body = separator + len(self.separator)
        after = text[body:]
        if not self.is_id and (lines := _named_after(self.separator, after)):
            name, body = lines[0], body + lines[1]
        fence = _FENCE.match(text, body)
        body = skip_whitespace(text, fence.end() if fence else body)
        try:
            value, end = DECODER.raw_decode(text, body)
        except (ValueError, RecursionError):
            closing = text.find(self.closing, body, limit) if self.closing else -1
            end = closing + len(self.closing) if closing >= 0 else limit
            unclosed = self.closing and closing < 0
            status = ToolCallParseStatus.UNCLOSED_BLOCK if unclosed else ToolCallParseStatus.INVALID_JSON
            return failed(text[start:end], status, name), end
        if fence:
            end = skip_whitespace(text, end)
            end += 3 if text.startswith("```", end) else 0
        if self.closing:
            closing = skip_whitespace(text, end)
            if not text.startswith(self.closing, closing):
                again = text.find(self.opening, end)
                end = again if again >= 0 else len(text)
                return failed(text[start:end], ToolCallParseStatus.UNCLOSED_BLOCK, name), end
            end = closing + len(self.closing)
        parsed = call(text[start:end], name, value)
        parsed.id = native
        return parsed, end

    def _name(self, head: str) -> tuple[str, str | None]:
        head = head.strip()
        if self.is_id:
            found = _KIMI_ID.fullmatch(head)
            return (found[1] if found else head), head
        name, _, native = head.partition(_MISTRAL_ID)
        return name.strip(), native.strip() or None


def _named_after(separator: str, after: str) -> tuple[str, int] | None:
    """DeepSeek V3's name, which stands in a line of its own behind `function` and the separator."""
    line, broken, _ = after.partition("\n")
    is_name = separator == DEEPSEEK_SEPARATOR and broken and line.strip() and not line.lstrip().startswith(("{", "`"))
    return (line.strip(), len(line) + 1) if is_name else None


# The bars and the low lines are not ASCII: the tokens are spelled so.
DEEPSEEK_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
DEEPSEEK = NamedJson(
    "DeepSeek: <\uff5ctool\u2581call\u2581begin\uff5c>NAME<\uff5ctool\u2581sep\uff5c>{json}",
    "<\uff5ctool\u2581call\u2581begin\uff5c>",
    DEEPSEEK_SEPARATOR,
    "<\uff5ctool\u2581call\u2581end\uff5c>",
    around=("<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581calls\u2581end\uff5c>"),
)
KIMI = NamedJson(
    "Kimi: <|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{json}",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    around=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    is_id=True,
)
MISTRAL = NamedJson("Mistral: [TOOL_CALLS]NAME[ARGS]{json}", "[TOOL_CALLS]", "[ARGS]")
