"""A conversation of a scripted agent with the real tool function, recorded as a rollout of a model is."""

import json
from typing import Any

from agentrft.rollout import Rollout, ToolCallRecord, Turn
from examples.common.tool_server import Call
from examples.medical_notes.search import SearchTool


class Conversation:
    """One attempt at a note. Call `search` for each turn, then `answer`."""

    def __init__(self, item: dict[str, Any], tool: SearchTool, trace_id: str) -> None:
        """Begin.

        Args:
            item: the row of the data file.
            tool: that the searches go to.
            trace_id: decides the order of hits, as for a model's rollout.
        """
        self.messages: list[dict[str, Any]] = [*item["messages"]]
        self._item, self._tool, self._trace_id = item, tool, trace_id
        self._turns: list[Turn] = []

    def search(self, *queries: str) -> list[list[str]]:
        """Search for all queries in one turn; the codes of each one's hits, in the order shown."""
        calls: list[ToolCallRecord] = []
        for query in queries:
            call_id = f"call_{sum(len(turn.tool_calls) for turn in self._turns) + len(calls)}"
            arguments = {"query": query}
            output = self._tool(Call(arguments, self._trace_id, self._item))
            calls.append(ToolCallRecord(call_id, "search", json.dumps(arguments), output, "ok", 0.0, 1))
        self._turns.append(Turn([], [], [], "stop", 0, tool_calls=calls))
        self.messages.append({"role": "assistant", "content": "", "tool_calls": [_as_message(call) for call in calls]})
        self.messages += [{"role": "tool", "tool_call_id": call.call_id, "content": call.output} for call in calls]
        return [[line.split()[0] for line in call.output.splitlines() if line[0].isupper()] for call in calls]

    def answer(self, codes: list[str]) -> Rollout:
        """End with these codes, one per line."""
        text = "\n".join(dict.fromkeys(codes))
        self._turns.append(Turn([], [], [], "stop", 0))
        self.messages.append({"role": "assistant", "content": text})
        return Rollout(self._trace_id, 1, "", 0, 0, "graded", self._turns, self.messages, text)


def _as_message(call: ToolCallRecord) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
