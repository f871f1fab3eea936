"""Calling the user's tools: HTTP endpoints, MCP servers and Python functions, recorded, replayed and cached.

A tool answers text that the model reads, or fails as infrastructure; it never answers something made up.
"""

from agentrft.spec.json_schema import schema_fault
from agentrft.tools.arguments import argument_fault, fits_schema, unenforced_parts
from agentrft.tools.base import RolloutResource, Tool, ToolCall, ToolFailure, ToolResult, TrialCall
from agentrft.tools.examples import example_arguments
from agentrft.tools.hooks import RolloutHooks
from agentrft.tools.http import HttpTool
from agentrft.tools.python import PythonTool, ToolError
from agentrft.tools.row_calls import call_judge, declared_tools, made_tools
from agentrft.tools.row_size import oversized_rows
from agentrft.tools.toolbox import Toolbox, create_toolbox

__all__ = [
    "HttpTool",
    "PythonTool",
    "RolloutHooks",
    "RolloutResource",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolFailure",
    "ToolResult",
    "Toolbox",
    "TrialCall",
    "argument_fault",
    "call_judge",
    "create_toolbox",
    "declared_tools",
    "example_arguments",
    "fits_schema",
    "made_tools",
    "oversized_rows",
    "schema_fault",
    "unenforced_parts",
]
