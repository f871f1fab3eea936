"""Conversations with all that an agent's have: what a renderer does with them says what it can be trusted with."""

from typing import Any

SEARCH: Any = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search the shelf.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "what"}, "limit": {"type": "integer"}},
            "required": ["query"],
        },
    },
}
LOOK_UP: Any = {
    "type": "function",
    "function": {"name": "look_up", "description": "One.", "parameters": {"type": "object", "properties": {}}},
}
TOOLS = [SEARCH, LOOK_UP]


def _call(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(number: int, name: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "name": name, "content": content}


SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Où est 北京? 🎉"}
NEXT = {"role": "user", "content": "And now?"}
ASKS = {"role": "assistant", "content": "", "tool_calls": [_call(1, "search", {"query": "北京", "limit": 3})]}
ASKS_AGAIN = {"role": "assistant", "content": "Hm.", "tool_calls": [_call(4, "search", {"query": "a"})]}
ASKS_TWICE = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [_call(2, "search", {"query": 'a "b"\n{c}'}), _call(3, "look_up", {})],
}
ASKS_BOTH = {**ASKS_TWICE, "content": ""}
ANSWERS = {"role": "assistant", "content": "There."}
THINKS = {"role": "assistant", "content": "Here.", "reasoning_content": "It moved."}

THINKS_AND_ASKS = {**ASKS, "reasoning_content": "Which shelf?"}
THINKS_AND_ASKS_TWICE = {**ASKS_TWICE, "reasoning_content": "Which two?"}
THINKS_AND_ASKS_BOTH = {**ASKS_BOTH, "reasoning_content": "Which two?"}

FOUND = _result(1, "search", "shelf 4 北京")
FOUND_AGAIN = _result(4, "search", "shelf 5")
FOUND_TWICE = [_result(2, "search", ""), _result(3, "look_up", '{"a": [1]}')]

Conversation = tuple[list[dict[str, Any]], list[Any]]

# What a renderer has to write as the model's template does: one and several calls, parallel results, an empty one,
# thoughts before a call and before an answer, a second question.
BATTERY: list[Conversation] = [
    ([USER], []),
    ([SYSTEM, USER, ANSWERS, USER], []),
    ([USER, THINKS, USER], []),
    ([SYSTEM, USER], TOOLS),
    ([USER, ASKS, FOUND], TOOLS),
    ([SYSTEM, USER, ASKS_TWICE, *FOUND_TWICE, ANSWERS, USER], TOOLS),
    ([USER, THINKS_AND_ASKS, FOUND], [SEARCH]),
    ([USER, THINKS_AND_ASKS, FOUND, THINKS, USER, THINKS_AND_ASKS], [SEARCH]),
]

# What is sampled turn by turn, to its last answer.
ROLLOUTS: list[Conversation] = [
    ([SYSTEM, USER, ANSWERS, NEXT, ANSWERS], []),
    ([USER, THINKS, NEXT, THINKS], []),
    ([SYSTEM, USER, ASKS, FOUND, ASKS_AGAIN, FOUND_AGAIN, ANSWERS, NEXT, ASKS, FOUND, ANSWERS], TOOLS),
    ([USER, ASKS, FOUND, ASKS_TWICE, *FOUND_TWICE, ANSWERS, NEXT, ANSWERS], TOOLS),
    ([SYSTEM, USER, THINKS_AND_ASKS, FOUND, THINKS, NEXT, THINKS_AND_ASKS, FOUND, THINKS], TOOLS),
    ([SYSTEM, USER, ASKS_BOTH, *FOUND_TWICE, ASKS, FOUND, ANSWERS], TOOLS),
    ([SYSTEM, USER, THINKS_AND_ASKS_TWICE, *FOUND_TWICE, THINKS_AND_ASKS_BOTH, *FOUND_TWICE, ANSWERS], TOOLS),
    ([SYSTEM, USER, ASKS, FOUND, NEXT, ANSWERS], TOOLS),
    ([SYSTEM, USER, THINKS_AND_ASKS, FOUND, NEXT, ANSWERS], TOOLS),
]
