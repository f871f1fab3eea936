"""An MCP server over HTTP whose token expires in the middle of a job: it is waited for, and the model never knows."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer

from agentrft.spec import McpToolSpec
from agentrft.tools import Toolbox, ToolCall, ToolFailure, create_toolbox, mcp
from agentrft.traffic import waiting

Heard = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_INTERVAL_S", 0.05)
    monkeypatch.setattr(waiting, "MAX_INTERVAL_S", 0.2)


class Guarded:
    """The SDK's server behind a gate that refuses everything while it has a `status`."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.executed: list[str] = []
        catalogue = MCPServer("catalogue")

        @catalogue.tool()
        def search(query: str) -> str:
            """Search the catalogue."""
            self.executed.append(query)
            return f"found {query}"

        self._app = catalogue.streamable_http_app()
        self.server = uvicorn.Server(
            uvicorn.Config(self.gate, interface="asgi3", port=0, log_level="error", lifespan="on")
        )

    async def gate(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self.status is not None:
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            await send({"type": "http.response.body", "body": b"token expired"})
            return
        await self._app(scope, receive, send)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/mcp"

    async def renew_after(self, heard: Heard) -> None:
        """Once somebody has complained."""
        async with asyncio.timeout(60):
            while not heard:
                await asyncio.sleep(0.05)
        self.status = None


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    one = Guarded()
    thread = threading.Thread(target=one.server.run, daemon=True)
    thread.start()
    while thread.is_alive() and not one.server.started:
        time.sleep(0.01)
    yield one
    one.server.should_exit = True
    thread.join(30)


def toolbox_at(url: str, heard: Heard, **fields: Any) -> Toolbox:
    spec = {"type": "mcp", "server_label": "catalogue", "server_url": url, "headers": {"Authorization": "Bearer x"}}
    return create_toolbox([McpToolSpec.model_validate({**spec, **fields})], notify=lambda *said: heard.append(said))


async def search(toolbox: Toolbox, rollout: int) -> str:
    call = ToolCall("call_1", "search", json.dumps({"query": str(rollout)}))
    return (await toolbox.tools["search"].call(call, trace_id=f"trace_{rollout}", attempt=1, item={})).output


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_calls_wait_while_the_credential_is_refused_and_none_is_lost(guarded: Guarded, status: int) -> None:
    heard: Heard = []
    toolbox = toolbox_at(guarded.url, heard)
    assert await search(toolbox, 0) == "found 0"
    guarded.status = status
    results = await asyncio.gather(*(search(toolbox, number) for number in range(1, 9)), guarded.renew_after(heard))
    await toolbox.close()
    assert results[:8] == [f"found {number}" for number in range(1, 9)]
    assert sorted(guarded.executed) == [str(number) for number in range(9)]
    assert [level for level, _ in heard] == ["warning", "info"]
    assert "MCP server 'catalogue' at 127.0.0.1:" in heard[0][1] and "refuses its credential" in heard[0][1]
    assert "takes its credential again" in heard[1][1]


async def test_a_session_that_was_open_before_goes_on_or_fails_as_infrastructure(guarded: Guarded) -> None:
    heard: Heard = []
    toolbox = toolbox_at(guarded.url, heard)
    assert await search(toolbox, 1) == "found 1"
    guarded.status = 401
    again, _ = await asyncio.gather(search(toolbox, 1), guarded.renew_after(heard), return_exceptions=True)
    assert again == "found 1" or isinstance(again, ToolFailure)
    assert "refuses its credential" in heard[0][1]
    assert await search(toolbox, 2) == "found 2"
    await toolbox.close()
    assert "takes its credential again" in heard[-1][1]


async def test_a_credential_that_stays_refused_fails_its_calls_in_time(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "OUTAGE_DEADLINE_S", 0.5)
    toolbox = toolbox_at(guarded.url, [])
    guarded.status = 401
    with pytest.raises(ToolFailure) as failed:
        await search(toolbox, 1)
    await toolbox.close()
    assert failed.value.kind == "credential_refused"
