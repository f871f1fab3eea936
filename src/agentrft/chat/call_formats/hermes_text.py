"""Our convention for models whose template knows no tools: calls as text, as Hermes has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.chat.call_formats.base import Calls, Tools
from agentrft.chat.hermes import join_calls, read_calls, write_given_call


@dataclass(frozen=True)
class Hermes:
    """`<tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>`, whether or not the tokenizer knows the tags."""

    label: str = "ours, as text: <tool_call>{json}</tool_call>"

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        return read_calls(text)

    def write(self, content: str, calls: Sequence[Mapping[str, Any]]) -> str:
        """A turn's text."""
        return join_calls(content, [write_given_call(call.get("function", call)) for call in calls])
