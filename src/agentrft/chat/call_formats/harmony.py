"""Calls in gpt-oss' harmony: messages to a function, with JSON in them."""

import re
from dataclasses import dataclass

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.chat.call_formats.base import Calls, Tools, call, failed
from agentrft.chat.hermes import DECODER

_MESSAGE = re.compile(r"(?:<\|start\|>assistant)?(?P<head>(?:(?!<\|message\|>|<\|start\|>).)*)<\|message\|>", re.DOTALL)
_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_ENDS = re.compile(r"<\|end\|>|<\|call\|>|<\|return\|>|<\|start\|>")


@dataclass(frozen=True)
class Harmony:
    """`<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{json}<|call|>`.

    The recipient may stand before the channel as well. Further thoughts between calls are no content.
    """

    label: str = "harmony: to=functions.NAME<|message|>{json}<|call|>"

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        contents: list[str] = []
        calls: Calls = []
        place = 0
        while message := _MESSAGE.match(text, place):
            end = _ENDS.search(text, message.end())
            body = text[message.end() : end.start() if end else len(text)]
            recipient, channel = _RECIPIENT.search(message["head"]), _CHANNEL.search(message["head"])
            stop = len(text) if end is None else end.start() if end[0] == "<|start|>" else end.end()
            if recipient:
                calls.append(self._one(text[place:stop], recipient[1], body))
            elif channel is None or channel[1] != "analysis":
                contents.append(body)
            place = stop
        rest = text[place:]
        if _RECIPIENT.search(rest):
            calls.append(failed(rest, ToolCallParseStatus.UNCLOSED_BLOCK))
        elif not contents and not calls:
            contents.append(rest)
        return "\n".join(part for part in contents if part), calls

    def _one(self, raw: str, name: str, body: str) -> ParsedToolCall:
        try:
            value, end = DECODER.raw_decode(body.strip())
        except (ValueError, RecursionError):
            return failed(raw, ToolCallParseStatus.INVALID_JSON, name)
        if body.strip()[end:]:
            return failed(raw, ToolCallParseStatus.INVALID_JSON, name)
        return call(raw, name, value)
