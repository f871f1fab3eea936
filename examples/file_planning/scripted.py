"""A rollout without a model: a script makes the calls, the real tools answer, and the grader sees what it would see."""

import json
from typing import Any

from examples.common.tool_server import BadArguments, Call
from examples.file_planning.tools import PlanningTools

Asked = tuple[str, dict[str, Any]]


def shell(command: str) -> Asked:
    return "shell", {"command": command}


def read_file(path: str, **lines: int) -> Asked:
    return "read_file", {"path": path, **lines}


class Conversation:
    """One scripted rollout of one row.

    Attributes:
        messages: the conversation so far, as a demonstration has it.
    """

    def __init__(self, tools: PlanningTools, row: dict[str, Any], trace_id: str) -> None:
        self._tools, self._row, self._trace_id = tools, row, trace_id
        self.messages: list[dict[str, Any]] = list(row["messages"])
        self._calls: list[dict[str, Any]] = []
        self._output_tools: list[dict[str, Any]] = []
        self._turns = 0
        self._text = ""

    def turn(self, *calls: Asked) -> list[str]:
        """One turn with these calls; what each of them is answered."""
        made, results, outputs = [], [], []
        for name, arguments in calls:
            call_id = f"call_{len(self._output_tools)}"
            output, status = self._answered(name, arguments)
            function = {"name": name, "arguments": json.dumps(arguments)}
            made.append({"id": call_id, "type": "function", "function": function})
            results.append({"role": "tool", "tool_call_id": call_id, "content": output})
            self._calls.append({**function, "status": status, "latency_s": 0.0, "turn": self._turns})
            self._output_tools.append(made[-1])
            outputs.append(output if status == "ok" else "")
        self.messages += [{"role": "assistant", "content": "", "tool_calls": made}, *results]
        self._turns += 1
        return outputs

    def answer(self, files: list[str]) -> None:
        """The last turn: the answer."""
        self._text = "\n".join(files)
        self._turns += 1
        self.messages.append({"role": "assistant", "content": self._text})

    def sample(self) -> dict[str, Any]:
        """The finished rollout as a python grader gets it, as far as this example's reads it."""
        trace = {"calls": self._calls, "turns": self._turns, "sampled_tokens": 0, "latency_s": 0.0}
        parts = {"output_text": self._text, "output_tools": self._output_tools, "messages": self.messages}
        return {**parts, "trace": trace}

    def _answered(self, name: str, arguments: dict[str, Any]) -> tuple[str, str]:
        tool = {"shell": self._tools.shell, "read_file": self._tools.read_file}[name]
        try:
            return tool(Call(arguments, self._trace_id, self._row)), "ok"
        except BadArguments as error:
            return json.dumps({"error": str(error)}), "client_error"


def listed_files(output: str) -> list[str]:
    """The files that a search's output names, in its order, each once."""
    paths = (line.split(":", 1)[0].strip().removeprefix("./") for line in output.splitlines())
    return list(dict.fromkeys(path for path in paths if path.endswith(".py")))
