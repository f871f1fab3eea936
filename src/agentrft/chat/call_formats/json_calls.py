"""How a template writes calls as JSON, learned from what it makes of one; and calls of that form read back.

Most families differ in nothing but the text around the JSON, whether it is a list, and what its keys are called.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.chat.call_formats.pythonic import python_calls
from agentrft.chat.hermes import DECODER, skip_whitespace

_BETWEEN = " \t\r\n;,"
# Llama's, before calls of its built-in tools and, now and then, before any.
PYTHON_TAG = "<|python_tag|>"
# Models write one for the other, whatever their template shows them.
_SYNONYMS = {"arguments": "parameters", "parameters": "arguments"}


@dataclass(frozen=True)
class CallFormat:
    """Calls as JSON objects, or as lists of them.

    Attributes:
        opening, closing: what stands around one of them, without white space; "" where there is nothing.
        name, arguments: its keys.
        inside: the key under which both stand, where that is one.
    """

    opening: str
    closing: str
    name: str
    arguments: str
    inside: str | None = None

    @property
    def label(self) -> str:
        """For people."""
        keys = f'{{"{self.name}": …, "{self.arguments}": …}}'
        return f"JSON: {self.opening}{keys}{self.closing}"

    def read(self, text: str, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[str, list[ParsedToolCall]]:
        """The text before the calls, and every attempted one in order. Without an opening a call is the whole turn."""
        if not self.opening and PYTHON_TAG in text:
            return self._tagged(text)
        start = text.find(self.opening) if self.opening else self._bare_start(text)
        if start < 0:
            return text, []
        calls: list[ParsedToolCall] = []
        place = start
        while place < len(text):
            if self.opening:
                place = text.find(self.opening, place)
                if place < 0:
                    break
            found, place = self._read_one(text, place)
            calls += found
            if not self.opening:
                while place < len(text) and text[place] in _BETWEEN:
                    place += 1
        return text[:start].removesuffix("\n"), calls

    def write(self, content: str, calls: Sequence[Mapping[str, Any]]) -> str:
        """A turn's text, for templates that leave writing calls to others."""
        functions = [call.get("function", call) for call in calls]
        made = [{self.name: one["name"], self.arguments: one.get("arguments") or {}} for one in functions]
        return f"{content}{self.opening}{json.dumps(made, ensure_ascii=False)}{self.closing}"

    def _tagged(self, text: str) -> tuple[str, list[ParsedToolCall]]:
        before, _, body = text.partition(PYTHON_TAG)
        if self._bare_start(body) >= 0:
            return before.rstrip("\n"), self.read(body)[1]
        return before.rstrip("\n"), python_calls(body, body)

    def _bare_start(self, text: str) -> int:
        start = len(text) - len(text.lstrip())
        rest = text[start:]
        try:
            value, _ = DECODER.raw_decode(rest)
        except (ValueError, RecursionError):
            opened = rest[:1] == "{" and rest[1:].lstrip().startswith(f'"{self.name}"')
            return start if opened else -1
        values = value if isinstance(value, list) else [value]
        keys = {self.arguments, _SYNONYMS.get(self.arguments, self.arguments)}
        is_call = all(isinstance(one, dict) and self.name in one and keys & one.keys() for one in values)
        return start if values and is_call else -1

    def _read_one(self, text: str, start: int) -> tuple[list[ParsedToolCall], int]:
        """The calls that open at `start`, and where they end."""
        body = skip_whitespace(text, start + len(self.opening))
        try:
            value, end = DECODER.raw_decode(text, body)
        # RecursionError: a model can nest brackets deeper than Python's JSON decoder goes.
        except (ValueError, RecursionError):
            return self._broken(text, start, body)
        if self.closing:
            closing = skip_whitespace(text, end)
            if not text.startswith(self.closing, closing):
                return self._broken(text, start, body)
            end = closing + len(self.closing)
        values = value if isinstance(value, list) else [value]
        raw = text[start:end]
        if not values:
            return [ParsedToolCall(raw, status=ToolCallParseStatus.MALFORMED_STRUCTURE)], end
        return [self._judge(one, raw) for one in values], end

    def _broken(self, text: str, start: int, body: int) -> tuple[list[ParsedToolCall], int]:
        closing = text.find(self.closing, body) if self.closing else -1
        again = text.find(self.opening, body) if self.opening else -1
        if closing < 0 or 0 <= again < closing:
            end = again if again >= 0 else len(text)
            status = ToolCallParseStatus.UNCLOSED_BLOCK if self.closing else ToolCallParseStatus.INVALID_JSON
            return [ParsedToolCall(text[start:end], status=status)], end
        end = closing + len(self.closing)
        return [ParsedToolCall(text[start:end], status=ToolCallParseStatus.INVALID_JSON)], end

    def _judge(self, value: Any, raw: str) -> ParsedToolCall:
        if isinstance(value, dict) and self.inside:
            value = value.get(self.inside)
        if not isinstance(value, dict):
            return ParsedToolCall(raw, status=ToolCallParseStatus.MALFORMED_STRUCTURE)
        key = self.arguments if self.arguments in value else _SYNONYMS.get(self.arguments, self.arguments)
        name, arguments = value.get(self.name), value.get(key, {})
        if isinstance(arguments, str):
            arguments = _object_in(arguments)
        if not isinstance(name, str) or not name:
            return ParsedToolCall(raw, status=ToolCallParseStatus.MISSING_NAME)
        if not isinstance(arguments, dict):
            return ParsedToolCall(raw, name=name, status=ToolCallParseStatus.MALFORMED_STRUCTURE)
        native = value.get("id")
        return ParsedToolCall(raw, name=name, arguments=arguments, id=native if isinstance(native, str) else None)


# Phi-4-mini's, whose template leaves calls to the model.
PHI_4 = CallFormat("<|tool_call|>", "<|/tool_call|>", "name", "arguments")


def learn(shown: str, name: str, arguments: dict[str, Any]) -> CallFormat | None:
    """The form in which `shown`, a whole turn that ends before its control token, has one call.

    None where it is not JSON.
    """
    for start in (place for place, sign in enumerate(shown) if sign in "[{"):
        try:
            value, end = DECODER.raw_decode(shown, start)
        except (ValueError, RecursionError):
            continue
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        for inside in (None, "function"):
            call = one.get(inside) if inside and isinstance(one, dict) else one
            if not isinstance(call, dict):
                continue
            name_key = next((key for key, of in call.items() if of == name), None)
            key = next((key for key, of in call.items() if arguments in (of, _object_in(of))), None)
            if name_key and key:
                return CallFormat(shown[:start].strip(), shown[end:].strip(), name_key, key, inside)
    return None


def _object_in(value: Any) -> Any:
    if not isinstance(value, str):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
