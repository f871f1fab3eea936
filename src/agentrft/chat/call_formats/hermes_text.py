"""Our convention for models whose template knows no tools: calls as text, as Hermes has them."""

from dataclasses import dataclass

from agentrft.chat.call_formats.base import Calls, Tools
from agentrft.chat.hermes import read_calls


@dataclass(frozen=True)
class Hermes:
    """`<tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>`, whether or not the tokenizer knows the tags."""

    label: str = "ours, as text: <tool_call>{json}</tool_call>"

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        return read_calls(text)
