"""What a scripted agent does, recorded as a model's rollout would be: calls, what the tools said, and the answer.

Demonstrations are written from these records, and scripted policies are graded by them, so that both meet the very
tools and graders that a model meets.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from examples.common import tool_server
from examples.common.tool_server import BadArguments, Tool

if TYPE_CHECKING:
    from agentrft.rollout import Rollout


@dataclass(frozen=True)
class Call:
    """A call that a script made, as `ToolCallRecord` has it."""

    call_id: str
    name: str
    arguments: str
    output: str
    status: str


class Episode:
    """One attempt at one sample, by a script.

    Args:
        tools: by name; plain functions, as all of this example are.
        messages: the prompt.

    Attributes:
        messages: the conversation so far.
        turns: the calls of each turn; the last one has none.
        answer: the final one; empty before `finish`.
    """

    def __init__(self, tools: Mapping[str, Tool], messages: list[dict[str, Any]]) -> None:
        self.messages = list(messages)
        self.turns: list[list[Call]] = []
        self.answer = ""
        self._tools = tools
        self._n_calls = 0

    def call(self, name: str, **arguments: str) -> str:
        """A turn with one call; what the agent reads."""
        return self.call_together((name, arguments))[0]

    def call_together(self, *calls: tuple[str, Mapping[str, str]]) -> list[str]:
        """A turn with several calls."""
        turn: list[Call] = []
        for name, arguments in calls:
            output, status = self._answer(name, dict(arguments))
            turn.append(Call(f"call_{self._n_calls}", name, json.dumps(dict(arguments)), output, status))
            self._n_calls += 1
        self.turns.append(turn)
        made = [
            {"id": one.call_id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in turn
        ]
        self.messages.append({"role": "assistant", "content": "", "tool_calls": made})
        self.messages += [{"role": "tool", "tool_call_id": one.call_id, "content": one.output} for one in turn]
        return [one.output for one in turn]

    def finish(self, answer: str) -> "Episode":
        """The last turn."""
        self.turns.append([])
        self.messages.append({"role": "assistant", "content": answer})
        self.answer = answer
        return self

    def rollout(self) -> "Rollout":
        """The record that a job would store of it, not graded yet, and without tokens."""
        # Here, because it imports torch, which writing data does without.
        from agentrft.rollout import Rollout
        from agentrft.rollout.record import ToolCallRecord, Turn

        turns = [
            Turn(
                [],
                [],
                [],
                "stop",
                0,
                tool_calls=[ToolCallRecord(**vars(one), latency_s=0.0, attempts=1) for one in turn],
            )
            for turn in self.turns
        ]
        return Rollout("trace_script", 1, "", 0, 0, "graded", turns, self.messages, self.answer)

    def _answer(self, name: str, arguments: dict[str, Any]) -> tuple[str, str]:
        try:
            return str(self._tools[name](tool_server.Call(arguments, "trace_script"))), "ok"
        except BadArguments as error:
            return json.dumps({"error": str(error)}), "client_error"


def sample_of(rollout: "Rollout") -> dict[str, Any]:
    """A rollout as a grader's `sample`."""
    from agentrft.rollout.record import grader_sample

    return grader_sample(rollout).as_payload()
