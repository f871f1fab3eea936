"""What a scripted agent does, recorded as a model's rollout would be: calls, what the tools said, and the answer.

Demonstrations are written from these records, and scripted policies are graded by them, so that both meet the very
tools and graders that a model meets.
"""

import json
from collections.abc import Mapping
from typing import Any

from agentrft.rollout import Rollout
from agentrft.rollout.record import ToolCallRecord, Turn, grader_sample
from examples.common.tool_server import BadArguments, Tool


class Episode:
    """One attempt at one sample, by a script.

    Args:
        tools: by name; plain functions, as all of this example are.
        messages: the prompt.
        trace_id: of the rollout.
    """

    def __init__(
        self, tools: Mapping[str, Tool], messages: list[dict[str, Any]], trace_id: str = "trace_script"
    ) -> None:
        self.messages = list(messages)
        self._tools = tools
        self._trace_id = trace_id
        self._turns: list[Turn] = []
        self._n_calls = 0

    def call(self, name: str, **arguments: str) -> str:
        """A turn with one call; what the agent reads."""
        return self.call_together((name, arguments))[0]

    def call_together(self, *calls: tuple[str, Mapping[str, str]]) -> list[str]:
        """A turn with several calls."""
        turn = _turn()
        for name, arguments in calls:
            output, status = self._answer(name, dict(arguments))
            text = json.dumps(dict(arguments))
            turn.tool_calls.append(ToolCallRecord(f"call_{self._n_calls}", name, text, output, status, 0.0, 1))
            self._n_calls += 1
        self._turns.append(turn)
        made = [
            {"id": one.call_id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in turn.tool_calls
        ]
        self.messages.append({"role": "assistant", "content": "", "tool_calls": made})
        self.messages += [
            {"role": "tool", "tool_call_id": one.call_id, "content": one.output} for one in turn.tool_calls
        ]
        return [one.output for one in turn.tool_calls]

    def finish(self, answer: str, *, sample_id: str = "", index: int = 0) -> Rollout:
        """The last turn, and with it the rollout; it is not graded yet."""
        self._turns.append(_turn())
        self.messages.append({"role": "assistant", "content": answer})
        return Rollout(
            trace_id=self._trace_id,
            attempt=1,
            sample_id=sample_id,
            step=0,
            index=index,
            outcome="graded",
            turns=self._turns,
            messages=self.messages,
            output_text=answer,
        )

    def _answer(self, name: str, arguments: dict[str, Any]) -> tuple[str, str]:
        try:
            return str(self._tools[name](arguments, self._trace_id)), "ok"
        except BadArguments as error:
            return json.dumps({"error": str(error)}), "client_error"


def sample_of(rollout: Rollout) -> dict[str, Any]:
    """A rollout as a grader's `sample`."""
    return grader_sample(rollout).as_payload()


def _turn() -> Turn:
    return Turn([], [], [], "stop", 0)
