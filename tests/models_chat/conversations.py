"""Random conversations as an agent has them, with all that a model may write and a tool may answer."""

import json
import random
from typing import Any

from tests.chat.test_token_exactness import ASSISTANT_WORDS, WORDS, some_text

PARAMETERS: dict[str, Any] = {
    "query": {"type": "string"},
    "limit": {"type": "integer"},
    "least": {"type": "number"},
    "exact": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "within": {"type": "object", "properties": {"shelf": {"type": "integer"}}},
    "code": {"anyOf": [{"type": "string"}, {"type": "null"}]},
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the shelf.",
            "parameters": {"type": "object", "properties": PARAMETERS, "required": ["query"]},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "One.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
        },
    },
]
# Templates that do not escape quotes cannot write these so that they could be told apart.
_QUOTES = set("'\"\\")


class Conversations:
    """Draws conversations.

    Args:
        seed: of the draw.
        plain_quotes: texts of calls have no quotes.
    """

    def __init__(self, seed: int, *, plain_quotes: bool = False) -> None:
        self.draw = random.Random(seed)
        self._words = [word for word in ASSISTANT_WORDS if not plain_quotes or not _QUOTES & set(word)]

    def one(self) -> list[dict[str, Any]]:
        """A conversation with up to three turns of calls, and one or two questions."""
        draw = self.draw
        messages: list[dict[str, Any]] = []
        if draw.random() < 0.5:
            messages.append({"role": "system", "content": some_text(draw, WORDS).strip() or "x"})
        thinks = draw.random() < 0.4
        for _ in range(draw.choice([1, 1, 2])):
            messages.append({"role": "user", "content": some_text(draw, WORDS).strip() or "x"})
            for _ in range(draw.randint(0, 2)):
                calls = [self._call() for _ in range(draw.choice([1, 1, 2, 3]))]
                content = some_text(draw, ASSISTANT_WORDS).strip() if draw.random() < 0.2 else ""
                messages.append(self._thinking({"role": "assistant", "content": content, "tool_calls": calls}, thinks))
                messages += [self._result(call) for call in calls]
            messages.append(self._thinking({"role": "assistant", "content": self._answer()}, thinks))
        return messages

    def _answer(self) -> str:
        return some_text(self.draw, ASSISTANT_WORDS).strip()

    def _thinking(self, message: dict[str, Any], thinks: bool) -> dict[str, Any]:
        return {**message, "reasoning_content": self._answer()} if thinks else message

    def _call(self) -> dict[str, Any]:
        draw = self.draw
        arguments: dict[str, Any] = {"query": some_text(draw, self._words, 5).strip()}
        name = draw.choice(["search", "search", "look_up"])
        values = {
            "limit": draw.randint(-5, 99),
            "least": draw.choice([0.5, -2.25, 3]),
            "exact": draw.random() < 0.5,
            "tags": [draw.choice(["a", "naïve", "北京", "true", "7"]) for _ in range(draw.randint(0, 3))],
            "within": {"shelf": draw.randint(0, 9)},
            "code": draw.choice(["A01.02", "42", "true", "x: y"]),
        }
        if name == "search":
            arguments |= {key: value for key, value in values.items() if draw.random() < 0.3}
        given = arguments if draw.random() < 0.5 else json.dumps(arguments, ensure_ascii=draw.random() < 0.5)
        number = f"call_{draw.randrange(10**6)}"
        return {"id": number, "type": "function", "function": {"name": name, "arguments": given}}

    def _result(self, call: dict[str, Any]) -> dict[str, Any]:
        content = some_text(self.draw, WORDS, 12) if self.draw.random() < 0.9 else ""
        name = call["function"]["name"]
        return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}
