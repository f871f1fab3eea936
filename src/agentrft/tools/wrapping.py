"""What a tool around another tool has of it."""

from agentrft.tools.base import Tool, TrialCall


class WrappedTool:
    """Shows, probes and closes the tool inside; `call` is for the class that wraps it."""

    def __init__(self, tool: Tool) -> None:
        self.name = tool.name
        self.description = tool.description
        self.parameters = tool.parameters
        self.idempotent = tool.idempotent
        self.reads_item = tool.reads_item
        self._tool = tool

    async def probe(self, trial: TrialCall | None) -> None:
        await self._tool.probe(trial)

    async def close(self) -> None:
        await self._tool.close()
