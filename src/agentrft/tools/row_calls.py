"""The calls in a data file's messages, held against the tools that the model is shown.

A call of a tool that is not there, or with arguments that the tool's schema refuses, would be shown to the model, or
trained on, as if it were one to make.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from agentrft.data import Judge, Sample
from agentrft.spec import HttpToolSpec, McpToolSpec, PythonToolSpec, ToolSpec
from agentrft.spec.json_schema import schema_fault
from agentrft.tools.arguments import argument_fault
from agentrft.tools.toolbox import Toolbox


@dataclass(frozen=True)
class KnownTools:
    """What is known of a job's tools.

    Attributes:
        schemas: JSON Schema of each tool's arguments, by name; None where it is not known yet.
        is_complete: whether there are no others.
    """

    schemas: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    is_complete: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to learn of them."""
        return self.is_complete and None not in self.schemas.values()


def declared_tools(specs: Iterable[ToolSpec]) -> KnownTools:
    """What a job says of its tools itself, before a function is imported or an MCP server is asked."""
    schemas: dict[str, Mapping[str, Any] | None] = {}
    is_complete = True
    for spec in specs:
        match spec:
            case HttpToolSpec():
                schemas[spec.name] = spec.parameters
            case PythonToolSpec():
                schemas[spec.tool_name] = spec.parameters
            case McpToolSpec(allowed_tools=None):
                is_complete = False
            case McpToolSpec():
                schemas |= dict.fromkeys(spec.allowed_tools or ())
    return KnownTools(schemas, is_complete)


def made_tools(toolbox: Toolbox) -> KnownTools:
    """The tools of a job that were made: all is known of them."""
    return KnownTools({tool.name: tool.parameters for tool in toolbox.tools.values()}, is_complete=True)


def call_judge(known: KnownTools | None = None) -> Judge:
    """What finds the faults of a sample's tools and calls, each with its field.

    The tools are the row's own, else the job's, as in a rollout. A row may describe only tools that the job can call.

    Args:
        known: the job's tools; None where there is no job yet.
    """
    tools = known or KnownTools()

    def judge(sample: Sample) -> list[str]:
        shown = _row_tools(sample) if sample.tools else tools
        faults = [
            f"tools[{index}].function.{fault}"
            for index, tool in enumerate(sample.tools)
            if (fault := _tool_fault(tool["function"], tools)) is not None
        ]
        return faults or _call_faults(sample.messages, shown)

    return judge


def _tool_fault(function: Mapping[str, Any], tools: KnownTools) -> str | None:
    if tools.is_complete and function["name"] not in tools.schemas:
        known = ", ".join(sorted(tools.schemas)) or "none"
        return f"name: the job has no tool '{function['name']}'; it has: {known}"
    fault = _schema_fault(_text(function.get("parameters")))
    return None if fault is None else f"parameters: {fault}"


def _row_tools(sample: Sample) -> KnownTools:
    functions = [tool["function"] for tool in sample.tools]
    return KnownTools({one["name"]: one.get("parameters") or {} for one in functions}, is_complete=True)


def _call_faults(messages: Sequence[Mapping[str, Any]], tools: KnownTools) -> list[str]:
    return [
        f"messages[{index}].tool_calls[{number}].function.{fault}"
        for index, message in enumerate(messages)
        for number, call in enumerate(message.get("tool_calls") or [])
        if (fault := _call_fault(call["function"], tools)) is not None
    ]


def _call_fault(function: Mapping[str, Any], tools: KnownTools) -> str | None:
    name = function["name"]
    if name not in tools.schemas:
        known = ", ".join(sorted(tools.schemas)) or "none"
        return f"name: there is no tool '{name}'; there are: {known}" if tools.is_complete else None
    schema = tools.schemas[name]
    # A job's own schema that is faulty is found with the tool.
    if not schema or _schema_fault(_text(schema)) is not None:
        return None
    fault = argument_fault(dict(schema), json.loads(function["arguments"]))
    return None if fault is None else f"arguments: they do not fit the parameters of '{name}': {fault}"


def _text(schema: Any) -> str:
    return json.dumps(schema or {})


@lru_cache(maxsize=256)
def _schema_fault(schema: str) -> str | None:
    # Most rows of a file have the same tools.
    return schema_fault(json.loads(schema))
