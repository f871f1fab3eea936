"""MCP servers that do not keep to the protocol, or list what no model can be given."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import McpToolSpec
from agentrft.tools import Toolbox, ToolCall, create_toolbox, mcp_listing

SERVER = Path(__file__).with_name("odd_mcp_server.py")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **fields}


def toolbox_of(script: dict[str, Any], said: list[str] | None = None, **fields: Any) -> Toolbox:
    spec = {
        "type": "mcp",
        "server_label": "odd",
        "command": sys.executable,
        "args": [str(SERVER)],
        "env": {"SCRIPT": json.dumps(script)},
        **fields,
    }
    heard = [] if said is None else said
    return create_toolbox([McpToolSpec.model_validate(spec)], notify=lambda level, text: heard.append(text))


def refusal(script: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(UserError) as refused:
        toolbox_of(script, **fields)
    return str(refused.value)


@pytest.mark.parametrize(
    ("answer", "output", "status"),
    [
        ({"content": [{"type": "text", "text": "seven"}]}, "seven", "ok"),
        ({"content": [{"type": "text", "text": "seven"}], "structuredContent": {"n": "seven"}}, "seven", "ok"),
        ({"content": [], "structuredContent": {"n": 7}}, '{"n": 7}', "ok"),
        ({"content": []}, "", "ok"),
        ({"content": [], "isError": True}, "the tool failed, and did not say why", "client_error"),
        ({"content": [{"type": "text", "text": "no"}], "isError": True}, "no", "client_error"),
        ({"content": [{"type": "image", "data": "AA==", "mimeType": "image/png"}]}, "[image: image/png]", "ok"),
        (
            {
                "content": [
                    {"type": "resource_link", "uri": "file:///a", "name": "a"},
                    {"type": "resource", "resource": {"uri": "file:///b", "text": "b"}},
                    {"type": "resource", "resource": {"uri": "file:///c", "blob": "AA=="}},
                ]
            },
            "[resource file:///a]\nb\n[resource file:///c]",
            "ok",
        ),
    ],
)
async def test_what_a_tool_with_an_output_schema_answers_is_read(
    answer: dict[str, Any], output: str, status: str
) -> None:
    toolbox = toolbox_of({"tools": [tool("count", outputSchema=SCHEMA)], "results": {"count": answer}})
    result = await toolbox.tools["count"].call(ToolCall("c", "count", "{}"), trace_id="t", attempt=1, item={})
    await toolbox.close()
    assert (result.output, result.status, result.faults) == (output, status, {})


async def test_an_output_schema_that_never_ends_is_not_looked_at() -> None:
    endless = tool("count", outputSchema={"type": "object", "$ref": "#", "$defs": {"a": {"$ref": "#/missing"}}})
    answer = {"content": [{"type": "text", "text": "seven"}]}
    toolbox = toolbox_of({"tools": [endless], "results": {"count": answer}})
    result = await toolbox.tools["count"].call(ToolCall("c", "count", "{}"), trace_id="t", attempt=1, item={})
    await toolbox.close()
    assert result.output == "seven"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([[[tool("a")], "next"]], "does not end: nextCursor 'next' came twice"),
        ([[[tool("a")], "1"], [[tool("b")], "2"], [[tool("c")], "1"]], "nextCursor '1' came twice"),
        ([[[], str(n)] for n in range(300)], "more than 200 pages"),
    ],
)
def test_a_list_without_an_end_is_given_up(pages: list[Any], said: str) -> None:
    started = time.monotonic()
    assert said in refusal({"pages": pages})
    assert time.monotonic() - started < 50, "it asked until the time-out"


def test_a_list_of_thousands_of_tools_is_read_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_listing, "MAX_LISTED", 100)
    assert "lists more than 100 tools" in refusal({"tools": [tool(f"t{n}") for n in range(101)]})


def test_pages_are_put_together_and_an_empty_cursor_is_the_end() -> None:
    pages = [[[tool("a")], "1"], [[tool("b"), tool("a")], ""]]
    assert set(toolbox_of({"pages": pages}).tools) == {"a", "b"}


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([tool("search\n"), tool("fetch")], "no model can call 'search\\n'"),
        ([tool("files.read")], "no model can call 'files.read'"),
        ([tool("")], "no model can call ''"),
        ([tool("x" * 65)], f"no model can call '{'x' * 65}'"),
        ([tool("a"), tool("a", description="another")], "lists the tool 'a' twice, differently"),
        ([tool(f"t{n}") for n in range(129)], "has 129 tools, which is more than 128"),
        ([tool("a", description="x" * 30_000)], "tool 'a': its description has 30000 characters"),
        ([tool("a", inputSchema={"type": "object", "$ref": "#/$defs/b"})], "tool 'a': parameters: $ref: '#/$defs/b'"),
        ([tool("a", inputSchema={"type": "object", "$ref": "#"})], "tool 'a': parameters: a $ref comes back"),
    ],
)
def test_a_tool_that_no_model_can_use_is_named_and_can_be_left_out(tools: list[dict[str, Any]], said: str) -> None:
    shown = refusal({"tools": tools})
    assert "MCP server 'odd'" in shown and said in shown
    toolbox = toolbox_of({"tools": [*tools, tool("fine")]}, allowed_tools=["fine"])
    assert set(toolbox.tools) == {"fine"}


def test_a_list_that_the_protocol_does_not_have_is_refused_with_the_place() -> None:
    said = refusal({"tools": [tool("fine"), tool("a", inputSchema={"type": "array"})]})
    assert "MCP server 'odd'" in said and "tools.1.inputSchema.type" in said


def test_an_old_or_odd_schema_does_not_refuse_the_server() -> None:
    said: list[str] = []
    tuples = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"at": {"items": [{"type": "number"}, {"type": "number"}]}, "name": {"pattern": "^\\p{L}+$"}},
    }
    pattern = {"type": "object", "properties": {"a": {"pattern": "(?P<x>a)(?P=x)"}}}
    toolbox = toolbox_of({"tools": [tool("old", inputSchema=tuples), tool("odd", inputSchema=pattern)]}, said)
    assert set(toolbox.tools) == {"old", "odd"}
    assert len(said) == 1 and "tool 'odd'" in said[0] and "properties.a.pattern" in said[0]
