"""Whether a model may think before it answers: found by what its template shows of thoughts, and how prompts end."""

import re
from typing import TYPE_CHECKING, Any

from agentrft.chat.codec import ChatCodec
from agentrft.chat.variables import template_text
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

QUESTION, THOUGHT = "Zw0ne", "Qw7vo"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look_up", "description": "One.", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": {}}}
BEGINS = re.compile(r"<[\w:]*think(ing)?>|\[THINK\]|<\|channel>thought")
ENDS = re.compile(r"</[\w:]*think(ing)?>|\[/THINK\]|<channel\|>")


def thinks(codec: ChatCodec, tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether sampled turns may begin with a thought, as the template is used here.

    A prompt that ends within a thought says so, and one that ends behind an empty one says that they do not; else a
    template that shows thoughts of earlier turns, or knows how to leave them out, has a model that writes them.
    """
    user: dict[str, Any] = {"role": "user", "content": QUESTION}
    begun = _text(codec, tokenizer, [user]).rpartition(QUESTION)[2]
    if BEGINS.search(begun):
        return len(BEGINS.findall(begun)) > len(ENDS.findall(begun))
    thought = {"role": "assistant", "reasoning_content": THOUGHT}
    result = {"role": "tool", "tool_call_id": "call_1", "name": "look_up", "content": "1"}
    answered = [user, {**thought, "content": "There."}]
    called = [user, {**thought, "content": "", "tool_calls": [CALL]}, result]
    if any(THOUGHT in _text(codec, tokenizer, messages) for messages in (answered, called)):
        return True
    return ENDS.search(template_text(tokenizer) or "") is not None


def _text(codec: ChatCodec, tokenizer: "PreTrainedTokenizerFast", messages: list[dict[str, Any]]) -> str:
    """The conversation as text; empty where the template refuses it, as some do calls or two turns."""
    tools = [TOOL] if any("tool_calls" in message for message in messages) else []
    try:
        return str(tokenizer.decode(codec.prompt_ids(messages, tools), skip_special_tokens=False))
    except (UserError, ValueError, TypeError, KeyError):
        return ""
