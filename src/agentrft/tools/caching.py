"""Equal calls of one step, made once."""

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

from agentrft.tools.base import Tool, ToolCall, ToolResult
from agentrft.tools.wrapping import WrappedTool


def call_key(call: ToolCall, item: dict[str, Any] | None) -> str:
    """The same for calls that ask the same: equal arguments, whatever their order, and the same row where it counts."""
    asked = {"name": call.name, "arguments": json.loads(call.arguments or "{}"), "item": item}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def earlier_call_key(call: ToolCall, item: dict[str, Any] | None) -> str:
    """As calls were recorded when `item` was not the whole row: it had neither `messages` nor `tools`."""
    rest = None if item is None else {key: value for key, value in item.items() if key not in ("messages", "tools")}
    return call_key(call, rest)


class CachedTool(WrappedTool):
    """A tool whose equal calls are answered by the first one's answer, until `forget`.

    Calls that come while the first is under way wait for it, and fail as it does. A cached answer has 0 attempts.
    """

    def __init__(self, tool: Tool) -> None:
        super().__init__(tool)
        self._answers: dict[str, asyncio.Future[ToolResult]] = {}

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """As the tool's own, at most once for equal calls."""
        key = call_key(call, item if self.reads_item else None)
        known = self._answers.get(key)
        if known is not None and not known.cancelled():
            result = await asyncio.shield(known)
            return replace(result, attempts=0, latency_s=0.0, faults={})
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting for it; asyncio would then complain that its exception was never looked at.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            result = await self._tool.call(call, trace_id=trace_id, attempt=attempt, item=item)
        except BaseException as error:  # others wait for this answer, and would for ever
            del self._answers[key]
            if isinstance(error, asyncio.CancelledError):
                answer.cancel()
            else:
                answer.set_exception(error)
            raise
        answer.set_result(result)
        return result

    def forget(self) -> None:
        """A new step begins: the next call is made again."""
        self._answers = {key: answer for key, answer in self._answers.items() if not answer.done()}
