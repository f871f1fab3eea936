"""Calling the user's tools: over HTTP, with bounded concurrency, deadlines and retries.

A tool answers text that the model reads, or fails as infrastructure; it never answers something made up.
"""

from collections.abc import Sequence

from agentrft.spec import ToolSpec
from agentrft.tools.base import Tool, ToolCall, ToolFailure, ToolResult
from agentrft.tools.http import HttpTool
from agentrft.traffic import Notify, notify_nobody

__all__ = ["HttpTool", "Tool", "ToolCall", "ToolFailure", "ToolResult", "create_tools"]


def create_tools(specs: Sequence[ToolSpec], *, notify: Notify = notify_nobody) -> dict[str, Tool]:
    """The callable tools by name. Close each when done.

    Args:
        notify: told when an endpoint goes down and when it answers again.

    Raises:
        UserError: a tool's headers cannot be sent.
    """
    return {spec.name: HttpTool(spec, notify=notify) for spec in specs}
