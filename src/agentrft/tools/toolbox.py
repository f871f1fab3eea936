"""All tools of a job, put together from what it declares."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.data import Sample
from agentrft.errors import UserError
from agentrft.spec import HookSpec, HttpToolSpec, McpToolSpec, PythonToolSpec, ToolSpec
from agentrft.spec.json_schema import schema_fault
from agentrft.spec.tools import ToolLimits
from agentrft.tools.arguments import argument_fault, unenforced_parts
from agentrft.tools.base import RolloutResource, Tool, ToolCall, TrialCall
from agentrft.tools.caching import CachedTool
from agentrft.tools.examples import example_arguments
from agentrft.tools.hooks import RolloutHooks
from agentrft.tools.http import HttpTool
from agentrft.tools.mcp import McpServer, McpTool
from agentrft.tools.mcp_listing import ToolDefinition
from agentrft.tools.python import PythonTool
from agentrft.tools.recording import RecordingTool, ReplayTool
from agentrft.traffic import Notify, notify_nobody


@dataclass
class Toolbox:
    """What a rollout can call. Close it when done.

    Attributes:
        tools: by the name that the model calls.
        resources: what is made and dropped with every attempt at a rollout.
        max_calls: in one rollout, by tool; absent where there is no limit.
        max_output_characters: of one answer, by tool.
        examples: arguments for a trial call, by tool; absent where the job gives none.
        idempotent: the tools that the job says may be called with arguments that are made up.
        unenforced: what of a tool's schema its calls are not held against, with the reasons, by tool.
    """

    tools: dict[str, Tool] = field(default_factory=dict)
    resources: list[RolloutResource] = field(default_factory=list)
    max_calls: dict[str, int] = field(default_factory=dict)
    max_output_characters: dict[str, int] = field(default_factory=dict)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    idempotent: set[str] = field(default_factory=set)
    unenforced: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools as Chat Completions `tools`."""
        return [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in self.tools.values()
        ]

    def add(self, tool: Tool, limits: ToolLimits, example: dict[str, Any] | None = None) -> None:
        """Take a tool in, with what its spec wants around it.

        Args:
            example: arguments for a trial call.

        Raises:
            UserError: its name is taken, its schema is none, its example does not fit it, or what it should replay is
                not there.
        """
        if tool.name in self.tools:
            raise UserError(f"tools: two tools share the name '{tool.name}'.", "Rename one of them.")
        fault = schema_fault(tool.parameters)
        if fault is not None:
            raise UserError(f"tool '{tool.name}': parameters: {fault}", "Give a JSON Schema of an object.")
        if unenforced := unenforced_parts(tool.parameters):
            self.unenforced[tool.name] = unenforced
        if example is not None:
            fault = argument_fault(tool.parameters, example)
            if fault is not None:
                raise UserError(f"tool '{tool.name}': example: {fault}", "Give arguments that fit its parameters.")
            self.examples[tool.name] = example
        if limits.idempotent:
            self.idempotent.add(tool.name)
        if limits.record is not None:
            tool = RecordingTool(tool, limits.record)
        if limits.replay is not None:
            tool = ReplayTool(tool, limits.replay, limits.on_replay_miss)
        if limits.cache:
            tool = CachedTool(tool)
        self.tools[tool.name] = tool
        if limits.max_calls is not None:
            self.max_calls[tool.name] = limits.max_calls
        if limits.max_output_characters is not None:
            self.max_output_characters[tool.name] = limits.max_output_characters

    def begin_step(self) -> None:
        """What was cached in the step before no longer counts."""
        for tool in self.tools.values():
            if isinstance(tool, CachedTool):
                tool.forget()

    async def probe(self, sample: Sample | None = None) -> None:
        """Look whether all tools and hooks are there, before a job's own calls.

        Args:
            sample: whose row goes with a real call of each tool that has an example, or is idempotent by declaration;
                None for no calls. Tools that may not be called twice get none, and neither do those of a job with
                hooks: what a hook makes for a rollout would be missing.

        Raises:
            EndpointError: one of them cannot be used.
        """
        hooks = [resource for resource in self.resources if isinstance(resource, RolloutHooks)]
        trials = {name: None if sample is None or hooks else self._trial(name, sample) for name in self.tools}
        await asyncio.gather(
            *(tool.probe(trials[name]) for name, tool in self.tools.items()), *(hook.probe() for hook in hooks)
        )

    def _trial(self, name: str, sample: Sample) -> TrialCall | None:
        tool, example = self.tools[name], self.examples.get(name)
        if not tool.idempotent:
            return None
        arguments = example
        if arguments is None:
            schema = _schema_shown(tool, sample)
            if name not in self.idempotent or schema is None:
                return None
            arguments = example_arguments(schema)
            if argument_fault(schema, arguments) is not None:
                return None
        call = ToolCall(f"call_{uuid.uuid4().hex[:24]}", name, json.dumps(arguments, ensure_ascii=False))
        return TrialCall(call, sample.item, is_example=example is not None)

    async def close(self) -> None:
        for part in (*self.tools.values(), *self.resources):
            await part.close()


def create_toolbox(
    specs: Sequence[ToolSpec],
    *,
    on_rollout_start: HookSpec | None = None,
    on_rollout_end: HookSpec | None = None,
    notify: Notify = notify_nobody,
) -> Toolbox:
    """Make all tools that a job declares.

    Args:
        notify: told when an endpoint goes down and when it answers again, and what of a schema is not enforced.

    Raises:
        UserError: headers cannot be sent, a function cannot be imported, an MCP server cannot be used, a schema is
            none, names collide.
    """
    toolbox = Toolbox()
    if on_rollout_start is not None or on_rollout_end is not None:
        toolbox.resources.append(RolloutHooks(on_rollout_start, on_rollout_end, notify=notify))
    for spec in specs:
        match spec:
            case HttpToolSpec():
                toolbox.add(HttpTool(spec, notify=notify), spec, spec.example)
            case PythonToolSpec():
                toolbox.add(PythonTool(spec), spec, spec.example)
            case McpToolSpec():
                server = McpServer(spec, notify=notify)
                toolbox.resources.append(server)
                unknown = sorted(spec.examples.keys() - {definition.name for definition in server.definitions})
                if unknown:
                    raise UserError(f"{server.label}: examples: it has no tool {unknown}.", "Correct the names.")
                for definition in server.definitions:
                    _add_of_server(toolbox, server, definition, spec)
    for name, parts in toolbox.unenforced.items():
        for part in parts:
            notify("warning", f"tool '{name}': parameters: the model sees it, and its calls may break it: {part}")
    return toolbox


def _schema_shown(tool: Tool, sample: Sample) -> dict[str, Any] | None:
    """A tool's schema as the model sees it with a sample; None where it does not."""
    if not sample.tools:
        return tool.parameters
    functions = [one["function"] for one in sample.tools if one["function"]["name"] == tool.name]
    return (functions[0].get("parameters") or {}) if functions else None


def _add_of_server(toolbox: Toolbox, server: McpServer, definition: ToolDefinition, spec: McpToolSpec) -> None:
    fault = schema_fault(definition.parameters)
    if fault is not None:
        raise UserError(
            f"{server.label}: tool '{definition.name}': parameters: {fault}",
            "Mend the server, or name the tools that the agent needs under its `allowed_tools`.",
        )
    toolbox.add(McpTool(server, definition), spec, spec.examples.get(definition.name))
