"""Calls as Gemma writes them, `call:NAME{key:value}`: Gemma 4 and FunctionGemma differ in their marks alone."""

import re
from dataclasses import dataclass
from typing import Any

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.chat.call_formats.base import Calls, Tools, attempt, blocks, call, failed
from agentrft.chat.call_formats.values import declared, typed

_DEEPEST = 100
_WORD = re.compile(r"[^,\[\]{}]*")
_KEY = re.compile(r"[^:,\[\]{}]*")


@dataclass(frozen=True)
class GemmaCalls:
    """`OPENING call:f{a:QUOTE text QUOTE,n:1} CLOSING`.

    Attributes:
        label: for people.
        opening, closing: of a call.
        quote: on both sides of text; a word without it is text too, where it is nothing else.
    """

    label: str
    opening: str
    closing: str
    quote: str

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        found = [
            (begin, end, self._one(text[begin:end], body, closed, tools))
            for begin, end, body, closed in blocks(text, self.opening, self.closing)
        ]
        return attempt(text, found)

    def _one(self, raw: str, body: str, closed: bool, tools: Tools) -> ParsedToolCall:
        if not closed:
            return failed(raw, ToolCallParseStatus.UNCLOSED_BLOCK)
        head, brace, _ = body.strip().partition("{")
        if not head.startswith("call:") or not brace:
            return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE)
        name = head.removeprefix("call:").strip()
        reader = _Reader(body.strip(), len(head), self.quote)
        try:
            arguments = reader.value(0, declared(tools, name))
        except ValueError:
            return failed(raw, ToolCallParseStatus.INVALID_JSON, name)
        return call(raw, name, arguments if reader.at_end else None)


class _Reader:
    def __init__(self, text: str, place: int, quote: str) -> None:
        self._text, self._place, self._quote = text, place, quote

    @property
    def at_end(self) -> bool:
        return self._place == len(self._text)

    def value(self, depth: int, schemas: Any = None, schema: Any = None) -> Any:
        """The value that begins here; `schemas` are those of an object's keys.

        Raises:
            ValueError: there is none.
        """
        if depth > _DEEPEST:
            raise ValueError("too deep")
        self._skip()
        if self._take("{"):
            return self._object(depth, schemas)
        if self._take("["):
            return self._list(depth)
        if self._take(self._quote):
            return self._quoted()
        return typed(self._match(_WORD).strip(), schema)

    def _object(self, depth: int, schemas: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        self._skip()
        while not self._take("}"):
            key = self._quoted() if self._take(self._quote) else self._match(_KEY).strip()
            self._skip()
            if not self._take(":"):
                raise ValueError("a key without a value")
            made[key] = self.value(depth + 1, None, schemas.get(key) if schemas else None)
            self._next("}")
        return made

    def _list(self, depth: int) -> list[Any]:
        made: list[Any] = []
        self._skip()
        while not self._take("]"):
            made.append(self.value(depth + 1))
            self._next("]")
        return made

    def _next(self, closing: str) -> None:
        self._skip()
        if not self._take(",") and not self._text.startswith(closing, self._place):
            raise ValueError("a value is not followed by another, nor by the end")
        self._skip()

    def _quoted(self) -> str:
        end = self._text.find(self._quote, self._place)
        if end < 0:
            raise ValueError("text that is not closed")
        text, self._place = self._text[self._place : end], end + len(self._quote)
        return text

    def _take(self, mark: str) -> bool:
        is_there = self._text.startswith(mark, self._place)
        self._place += len(mark) if is_there else 0
        return is_there

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._place)
        if not found or not found[0]:
            raise ValueError("nothing is there")
        self._place = found.end()
        return found[0]

    def _skip(self) -> None:
        while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
            self._place += 1


GEMMA_4 = GemmaCalls("Gemma 4: <|tool_call>call:NAME{key:value}<tool_call|>", "<|tool_call>", "<tool_call|>", '<|"|>')
FUNCTION_GEMMA = GemmaCalls(
    "FunctionGemma: <start_function_call>call:NAME{key:value}<end_function_call>",
    "<start_function_call>",
    "<end_function_call>",
    "<escape>",
)
