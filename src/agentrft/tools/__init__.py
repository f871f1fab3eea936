"""Calling the user's tools: over HTTP, with bounded concurrency, deadlines and retries.

A tool answers text that the model reads, or fails as infrastructure; it never answers something made up.
"""

from collections.abc import Sequence

from agentrft.spec import ToolSpec
from agentrft.tools.base import Tool, ToolCall, ToolFailure, ToolResult
from agentrft.tools.http import HttpTool

__all__ = ["HttpTool", "Tool", "ToolCall", "ToolFailure", "ToolResult", "create_tools"]


def create_tools(specs: Sequence[ToolSpec]) -> dict[str, Tool]:
    """The callable tools by name. Close each when done.

    Raises:
        UserError: a tool's headers cannot be sent.
    """
    return {spec.name: HttpTool(spec) for spec in specs}
