"""Conversations as every renderer takes them, and without any text that would become a control token."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentrft.chat.hermes import call_object, given_text


class Preparation:
    """What is done to every message before it is rendered.

    Args:
        control_texts: texts of control tokens; a space is put into them in every message.
        markup_texts: the same for markup that users' messages and tool results have no business with.
        writes_any_call: the renderer writes calls whose arguments are no object as they stand; else they are text.
    """

    def __init__(
        self, control_texts: Iterable[str] = (), markup_texts: Iterable[str] = (), *, writes_any_call: bool = False
    ) -> None:
        control_texts = list(control_texts)
        self._writes_any_call = writes_any_call
        self._control_pattern = _any_of(control_texts)
        self._markup_pattern = _any_of([*control_texts, *markup_texts])

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Messages as every renderer takes them: no developer role, text content, arguments as objects."""
        return [self._message(message) for message in messages]

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        role = message["role"]
        pattern = self._markup_pattern if role in ("user", "tool") else self._control_pattern
        prepared = {**message, "role": "system" if role == "developer" else role}
        prepared.pop("weight", None)
        for key in ("name", "tool_call_id"):
            if isinstance(message.get(key), str):
                prepared[key] = _defused(message[key], pattern)
        texts = [message.get("content") or ""]
        calls = []
        for call in message.get("tool_calls") or []:
            function = call["function"]
            arguments = call_object(function)
            if arguments is not None:
                named = {**function, "name": _defused(function["name"], pattern)}
                calls.append(
                    {**_defused_id(call, pattern), "function": {**named, "arguments": _defused(arguments, pattern)}}
                )
            elif self._writes_any_call:
                calls.append(call)
            else:
                texts.append(given_text(function))
        prepared["content"] = _defused("\n".join(text for text in texts if text), pattern)
        if isinstance(message.get("reasoning_content"), str):
            prepared["reasoning_content"] = _defused(message["reasoning_content"], pattern)
        prepared.pop("tool_calls", None)
        if calls:
            prepared["tool_calls"] = calls
        return prepared


def envelopes(tools: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    # The package's own type is the bare function, but its renderers print what they get, and the templates they
    # mirror were trained on the whole envelope; those that want the bare function unwrap it.
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools] or None


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    ordered = sorted(set(texts), key=len, reverse=True)
    # A single character cannot be broken up, and single characters end no turn.
    alternatives = [re.escape(text) for text in ordered if len(text) > 1]
    return re.compile("|".join(alternatives)) if alternatives else None


def _defused(value: Any, pattern: re.Pattern[str] | None) -> Any:
    """`value` with all its texts encodable, and without any text that `pattern` matches."""
    if isinstance(value, str):
        # JSON can spell half of a surrogate pair, which no tokenizer takes.
        text = value.encode("utf-8", "replace").decode()
        return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if pattern else text
    if isinstance(value, dict):
        return {_defused(key, pattern): _defused(item, pattern) for key, item in value.items()}
    if isinstance(value, list):
        return [_defused(item, pattern) for item in value]
    return value


def _defused_id(call: Mapping[str, Any], pattern: re.Pattern[str] | None) -> dict[str, Any]:
    """The call; some templates show its id."""
    return {**call, "id": _defused(call["id"], pattern)} if isinstance(call.get("id"), str) else dict(call)
