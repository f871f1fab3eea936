"""Keeping every call with its answer, and answering from what was kept: no traffic while a grader is worked on.

One file per tool, `FOLDER/<tool>.jsonl`, a line per call: {"key", "arguments", "output", "status", "latency_s"}.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from agentrft import wire
from agentrft.errors import UserError
from agentrft.tools.base import ResultStatus, Tool, ToolCall, ToolFailure, ToolResult, TrialCall
from agentrft.tools.caching import call_key, earlier_call_key
from agentrft.tools.wrapping import WrappedTool


class RecordingTool(WrappedTool):
    """A tool whose calls and answers are kept. Failures of the infrastructure are not: they are no answers.

    Raises:
        UserError: the folder cannot be made or written to.
    """

    def __init__(self, tool: Tool, folder: Path) -> None:
        super().__init__(tool)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"{tool.name}.jsonl").open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            problem = f"tool '{tool.name}': record: {folder}: {error.strerror}."
            raise UserError(problem, "Name a folder that can be written to.") from error

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """As the tool's own."""
        result = await self._tool.call(call, trace_id=trace_id, attempt=attempt, item=item)
        line = {
            "key": call_key(call, item if self.reads_item else None),
            "arguments": call.arguments,
            "output": result.output,
            "status": result.status,
            "latency_s": round(result.latency_s, 4),
        }
        self._file.write(wire.dump(line) + "\n")
        return result

    async def close(self) -> None:
        self._file.close()
        await self._tool.close()


class ReplayTool(WrappedTool):
    """A tool that answers equal calls as they were answered when they were recorded; the first answer of each counts.

    Args:
        on_miss: "live" makes calls that were not recorded; "error" fails them, of kind "not_recorded".

    Raises:
        UserError: there is no record of this tool, or it cannot be read.
    """

    def __init__(self, tool: Tool, folder: Path, on_miss: Literal["error", "live"]) -> None:
        super().__init__(tool)
        self._on_miss = on_miss
        self._path = folder / f"{tool.name}.jsonl"
        self._answers = _read(self._path, tool.name)

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """The recorded answer.

        Raises:
            ToolFailure: "not_recorded", or as the tool's own where misses are made live.
        """
        read = item if self.reads_item else None
        found = self._answers.get(call_key(call, read)) or self._answers.get(earlier_call_key(call, read))
        if found is not None:
            return found
        if self._on_miss == "live":
            return await self._tool.call(call, trace_id=trace_id, attempt=attempt, item=item)
        message = f"{self._path} has no call with the arguments {call.arguments[:200]}"
        raise ToolFailure(self.name, "not_recorded", message, 0, faults={"not_recorded": 1}, repeatable=False)

    async def probe(self, trial: TrialCall | None) -> None:
        if self._on_miss == "live":
            await self._tool.probe(trial)


def _read(path: Path, tool: str) -> dict[str, ToolResult]:
    if not path.is_file():
        raise UserError(f"tool '{tool}': replay: {path} does not exist.", "Run once with `record` set to that folder.")
    answers: dict[str, ToolResult] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            if not line.strip():
                continue
            row = wire.parse(line)
            if not isinstance(row["output"], str) or row["status"] not in get_args(ResultStatus):
                raise ValueError("'output' must be text, and 'status' one of " + ", ".join(get_args(ResultStatus)))
            answers.setdefault(row["key"], ToolResult(row["output"], row["status"], 0.0, attempts=0))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"tool '{tool}': replay: {path}, line {number}: {error!r}.", "Record it again.") from error
    return answers
