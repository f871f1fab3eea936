"""MCP servers as tools, over both transports: discovery, a session for each rollout, results and faults."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import EndpointError, UserError
from agentrft.spec import McpToolSpec
from agentrft.tools import Toolbox, ToolCall, ToolFailure, ToolResult, create_toolbox

SERVER = Path(__file__).with_name("mcp_server.py")
SECRET = "sk-catalogue-0123456789"
# Over stdio each is a process of Python; `make test-chaos` takes 64.
ROLLOUTS = int(os.environ.get("AGENTRFT_MCP_ROLLOUTS", "12"))


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "CATALOGUE_KEY": SECRET}
    process = subprocess.Popen([sys.executable, str(SERVER), str(port)], stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probing:
            if probing.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


def stdio_spec(**fields: Any) -> McpToolSpec:
    spec = {
        "type": "mcp",
        "server_label": "catalogue",
        "command": sys.executable,
        "args": [str(SERVER)],
        "env": {"CATALOGUE_KEY": SECRET},
        **fields,
    }
    return McpToolSpec.model_validate(spec)


def http_spec(url: str, **fields: Any) -> McpToolSpec:
    headers = {"Authorization": f"Bearer {SECRET}"}
    spec = {"type": "mcp", "server_label": "catalogue", "server_url": url, "headers": headers, **fields}
    return McpToolSpec.model_validate(spec)


@pytest.fixture(params=["stdio", "http"])
async def toolbox(request: pytest.FixtureRequest, server_url: str) -> AsyncIterator[Toolbox]:
    toolbox = create_toolbox([stdio_spec() if request.param == "stdio" else http_spec(server_url)])
    yield toolbox
    await toolbox.close()


async def call(toolbox: Toolbox, name: str, *, rollout: int = 1, **arguments: Any) -> ToolResult:
    made = ToolCall("call_1", name, json.dumps(arguments))
    return await toolbox.tools[name].call(made, trace_id=f"trace_{rollout}", attempt=1, item={})


async def end(toolbox: Toolbox, rollout: int = 1) -> None:
    for resource in toolbox.resources:
        await resource.end(trace_id=f"trace_{rollout}", attempt=1, outcome="graded")


async def test_tools_are_discovered_with_their_schemas_and_answer(toolbox: Toolbox) -> None:
    assert set(toolbox.tools) == {"search", "remember", "secret", "big", "die"}
    search = toolbox.tools["search"]
    assert search.description == "Search the catalogue."
    assert search.parameters["properties"]["query"]["type"] == "string"
    assert search.parameters["required"] == ["query"]
    result = await call(toolbox, "search", query="pear")
    assert (result.output, result.status, result.attempts) == ("pear-0 pear-1", "ok", 1)


async def test_each_rollout_has_a_session_of_its_own_which_lasts_as_long_as_it(toolbox: Toolbox) -> None:
    assert (await call(toolbox, "remember", word="a")).output == "a"
    assert (await call(toolbox, "remember", word="b")).output == "a b"
    assert (await call(toolbox, "remember", rollout=2, word="c")).output == "c"
    await end(toolbox, 1)
    assert (await call(toolbox, "remember", word="d")).output == "d"


async def test_what_the_tool_refuses_is_the_models_to_read(toolbox: Toolbox) -> None:
    refused = await call(toolbox, "search", query="pear", limit=0)
    assert refused.status == "client_error" and "limit must be at least 1" in refused.output


async def test_an_answer_over_a_megabyte_is_too_large(toolbox: Toolbox) -> None:
    assert (await call(toolbox, "big")).status == "too_large"


async def test_a_secret_that_the_server_says_back_is_taken_out(toolbox: Toolbox) -> None:
    assert (await call(toolbox, "secret")).output == "the key is [redacted]"


async def test_a_session_that_breaks_fails_its_rollout_and_no_other() -> None:
    toolbox = create_toolbox([stdio_spec(timeout_s=10)])
    await call(toolbox, "remember", rollout=2, word="x")
    with pytest.raises(ToolFailure) as failed:
        await call(toolbox, "die")
    assert failed.value.kind in ("connection", "server_error")
    with pytest.raises(ToolFailure):
        await call(toolbox, "search", query="pear")
    assert (await call(toolbox, "remember", rollout=2, word="y")).output == "x y"
    await end(toolbox, 1)
    assert (await call(toolbox, "search", query="pear")).status == "ok"
    await toolbox.close()


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_many_rollouts_at_once(transport: str, server_url: str) -> None:
    one = stdio_spec if transport == "stdio" else partial(http_spec, server_url)
    spec = one(max_concurrency=ROLLOUTS)
    toolbox = create_toolbox([spec])

    async def rollout(n: int) -> list[str]:
        outputs = [(await call(toolbox, "remember", rollout=n, word=f"{n}.{turn}")).output for turn in range(3)]
        await end(toolbox, n)
        return outputs

    told = await asyncio.gather(*(rollout(n) for n in range(ROLLOUTS)))
    await toolbox.close()
    assert told == [[f"{n}.0", f"{n}.0 {n}.1", f"{n}.0 {n}.1 {n}.2"] for n in range(ROLLOUTS)]


def test_only_the_allowed_tools_are_taken(server_url: str) -> None:
    assert set(create_toolbox([http_spec(server_url, allowed_tools=["search"])]).tools) == {"search"}
    with pytest.raises(UserError, match=r"allowed_tools: it has no \['fetch'\]"):
        create_toolbox([http_spec(server_url, allowed_tools=["search", "fetch"])])


def test_a_command_that_does_not_start_is_refused_with_what_it_said() -> None:
    with pytest.raises(EndpointError, match="cannot be used") as refused:
        create_toolbox([stdio_spec(command="/nowhere/at/all", args=[])])
    assert "command" in refused.value.remedy
    program = "import sys; print('no catalogue file', file=sys.stderr); sys.exit(1)"
    with pytest.raises(EndpointError, match="no catalogue file"):
        create_toolbox([stdio_spec(args=["-c", program])])


def test_a_server_that_is_not_there_is_refused() -> None:
    with pytest.raises(EndpointError, match="cannot be used") as refused:
        create_toolbox([http_spec("http://127.0.0.1:9/mcp")])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_server_that_never_answers_is_given_up_in_time(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrft.tools.mcp_connection.OPEN_TIMEOUT_S", 3.0)
    program = "import sys, time; print('reading the catalogue', file=sys.stderr, flush=True); time.sleep(600)"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        spec = http_spec(url, timeout_s=600) if transport == "http" else stdio_spec(args=["-c", program])
        started = time.monotonic()
        with pytest.raises(EndpointError, match="no answer within 3 s") as refused:
            create_toolbox([spec])
    assert time.monotonic() - started < 30
    assert ("it said: reading the catalogue" in str(refused.value)) == (transport == "stdio")


@pytest.mark.parametrize(
    "fields",
    [{"command": None}, {"server_url": "http://h.example/"}, {"headers": {"A": "b"}}, {"require_approval": "always"}],
)
def test_a_spec_that_is_neither_transport_or_both_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"server_url|never"):
        stdio_spec(**fields)


def test_an_example_for_a_tool_that_the_server_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="examples: it has no tool"):
        create_toolbox([stdio_spec(examples={"serach": {"query": "a"}})])


def test_an_example_must_fit_the_tools_schema() -> None:
    with pytest.raises(UserError, match='example: "query" is a required property'):
        create_toolbox([stdio_spec(examples={"search": {}})])
