"""Made-up messages that a template is asked to render, so that what it does with them can be seen."""

from collections.abc import Mapping
from typing import Any

# Stand in for texts whose place in a rendering is looked for. No template has them, and none changes them.
FIRST, SECOND, THIRD, FOURTH = "Zw0ne", "Qw7vo", "Vb3xe", "Jm9ry"
CALL_ID = "call_1"

TOOL: Any = {
    "type": "function",
    "function": {
        "name": FIRST,
        "description": FIRST,
        "parameters": {"type": "object", "properties": {FIRST: {"type": "string"}}, "required": [FIRST]},
    },
}


def user(content: str = FIRST) -> Any:
    return {"role": "user", "content": content}


def answer(content: str = SECOND, **more: Any) -> Any:
    return {"role": "assistant", "content": content, **more}


def called(*arguments: Mapping[str, Any], name: str = FIRST, content: str = "", **more: Any) -> Any:
    """A turn that calls a tool once with each of `arguments`, by default once with one."""
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": dict(one)}}
        for number, one in enumerate(arguments or ({FIRST: SECOND},), 1)
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls, **more}


def result(content: str = FIRST, call_id: str = CALL_ID) -> Any:
    return {"role": "tool", "tool_call_id": call_id, "name": FIRST, "content": content}
