"""What a job's spec puts around a tool: recording, replay, a cache, and the checks of names and schemas."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.job.notices import Notices
from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, Tool, Toolbox, ToolCall, ToolFailure, ToolResult, argument_fault, create_toolbox
from agentrft.tools.caching import call_key
from tests.traffic.chaos_server import ChaosServer, ok, raw, status


def toolbox_at(url: str, **fields: Any) -> Toolbox:
    return create_toolbox([HttpToolSpec.model_validate({"name": "search", "url": url, "retries": 0, **fields})])


async def run(tool: Tool, arguments: str = '{"a": 1, "b": 2}', *, word: str = "apple", n: int = 1) -> ToolResult:
    call = ToolCall(f"call_{n}", tool.name, arguments)
    return await tool.call(call, trace_id=f"trace_{n}", attempt=1, item={"word": word})


async def test_equal_calls_of_a_step_are_made_once_and_those_of_the_next_again() -> None:
    async with ChaosServer(default=ok(delay_s=0.05)) as server:
        toolbox = toolbox_at(server.url, cache=True)
        tool = toolbox.tools["search"]
        results = await asyncio.gather(
            run(tool, n=1), run(tool, '{"b": 2, "a": 1}', n=2), run(tool, '{"a": 2}', n=3), run(tool, word="pear", n=4)
        )
        assert [result.attempts for result in results] == [1, 0, 1, 1]
        assert {result.output for result in results} == {"fine"}
        assert (await run(tool)).attempts == 0
        toolbox.begin_step()
        assert (await run(tool)).attempts == 1
        assert len(server.received) == 4
        await toolbox.close()


async def test_a_call_that_failed_is_not_cached() -> None:
    async with ChaosServer(script=[status(500)]) as server:
        toolbox = toolbox_at(server.url, cache=True)
        first, second = await asyncio.gather(
            run(toolbox.tools["search"]), run(toolbox.tools["search"]), return_exceptions=True
        )
        assert isinstance(first, ToolFailure) and isinstance(second, ToolFailure)
        assert (await run(toolbox.tools["search"])).output == "fine"
        await toolbox.close()


def test_a_cache_of_calls_that_do_something_is_refused() -> None:
    with pytest.raises(ValueError, match="idempotent"):
        toolbox_at("http://127.0.0.1:1/", cache=True, idempotent=False)


async def test_what_was_recorded_is_replayed_without_the_endpoint(tmp_path: Path) -> None:
    async with ChaosServer(script=[ok("one"), status(404, "no such thing"), status(500)]) as server:
        toolbox = toolbox_at(server.url, record=tmp_path / "calls")
        live = [await run(toolbox.tools["search"]), await run(toolbox.tools["search"], "{}")]
        with pytest.raises(ToolFailure):
            await run(toolbox.tools["search"], '{"c": 3}')
        await toolbox.close()
    lines = [json.loads(line) for line in (tmp_path / "calls" / "search.jsonl").read_text().splitlines()]
    assert [(line["arguments"], line["output"], line["status"]) for line in lines] == [
        ('{"a": 1, "b": 2}', "one", "ok"),
        ("{}", "no such thing", "client_error"),
    ]
    replay = toolbox_at("http://127.0.0.1:1/", replay=tmp_path / "calls")
    await replay.probe()
    again = [await run(replay.tools["search"], '{"b": 2, "a": 1}'), await run(replay.tools["search"], "{}")]
    assert [(one.output, one.status) for one in again] == [(one.output, one.status) for one in live]
    assert [one.attempts for one in again] == [0, 0]
    with pytest.raises(ToolFailure, match="has no call with the arguments") as missed:
        await run(replay.tools["search"], '{"c": 3}')
    assert (missed.value.kind, missed.value.repeatable) == ("not_recorded", False)
    with pytest.raises(ToolFailure):
        await run(replay.tools["search"], word="pear")
    await replay.close()


async def test_what_was_recorded_when_the_item_was_a_part_of_the_row_is_replayed(tmp_path: Path) -> None:
    call, row = ToolCall("call_1", "search", "{}"), {"messages": [], "tools": [], "word": "apple"}
    for key, output in ((call_key(call, {"word": "apple"}), "then"), (call_key(call, row), "now")):
        line = {"key": key, "arguments": "{}", "output": output, "status": "ok", "latency_s": 0.0}
        (tmp_path / "search.jsonl").write_text(json.dumps(line) + "\n")
        tool = toolbox_at("http://127.0.0.1:1/", replay=tmp_path).tools["search"]
        assert (await tool.call(call, trace_id="t", attempt=1, item=row)).output == output
        with pytest.raises(ToolFailure):
            await tool.call(call, trace_id="t", attempt=1, item={**row, "word": "pear"})


async def test_what_was_not_recorded_may_be_asked_live_and_recorded_then(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "search.jsonl").touch()
    async with ChaosServer(default=ok("live")) as server:
        toolbox = toolbox_at(server.url, record=folder, replay=folder, on_replay_miss="live")
        assert (await run(toolbox.tools["search"])).output == "live"
        await toolbox.close()
        again = toolbox_at(server.url, replay=folder)
        assert (await run(again.tools["search"])).output == "live"
        await again.close()
        assert len(server.received) == 1


def test_a_replay_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"replay: .*search\.jsonl does not exist"):
        toolbox_at("http://127.0.0.1:1/", replay=tmp_path)
    (tmp_path / "search.jsonl").write_text('{"key": "a"}\n')
    with pytest.raises(UserError, match=r"search\.jsonl, line 1"):
        toolbox_at("http://127.0.0.1:1/", replay=tmp_path)


async def test_a_plain_endpoint_gets_the_arguments_alone_and_its_answer_is_read_whole() -> None:
    async with ChaosServer(script=[raw(b'{"output": "x", "more": 1}', content_type="application/json")]) as server:
        toolbox = toolbox_at(server.url, format="plain")
        result = await run(toolbox.tools["search"])
        await toolbox.close()
    assert server.received[0].body == {"a": 1, "b": 2}
    assert server.received[0].headers["X-Trace-Id"] == "trace_1"
    assert result.output == '{"output": "x", "more": 1}'


def test_a_schema_that_is_none_is_refused_with_the_tools_name() -> None:
    with pytest.raises(UserError, match=r"tool 'search': parameters: properties\.a\.type"):
        toolbox_at("http://127.0.0.1:1/", parameters={"type": "object", "properties": {"a": {"type": "text"}}})
    with pytest.raises(UserError, match="arguments are an object"):
        toolbox_at("http://127.0.0.1:1/", parameters={"type": "array"})


def test_a_schema_is_not_fetched_from_the_network() -> None:
    with pytest.raises(UserError, match="only references inside the schema"):
        toolbox_at("http://127.0.0.1:1/", parameters={"$ref": "http://127.0.0.1:1/schema.json"})


def test_two_tools_of_one_name_are_refused() -> None:
    toolbox = toolbox_at("http://127.0.0.1:1/")
    spec = HttpToolSpec.model_validate({"name": "search", "url": "http://127.0.0.1:1/"})
    with pytest.raises(UserError, match="share the name 'search'"):
        toolbox.add(HttpTool(spec), spec)


def test_what_of_a_schema_cannot_be_checked_is_said_and_the_tool_is_there_with_the_rest() -> None:
    said: list[tuple[str, str]] = []
    parameters = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a"}}, "required": ["a"]}
    spec = HttpToolSpec.model_validate({"name": "search", "url": "http://127.0.0.1:1/", "parameters": parameters})
    toolbox = create_toolbox([spec], notify=lambda level, text: said.append((level, text)))
    assert toolbox.tools["search"].parameters == parameters, "the model sees it as it was written"
    assert [level for level, _ in said] == ["warning"]
    assert "tool 'search'" in said[0][1] and "properties.a.pattern: '^(a'" in said[0][1]
    assert argument_fault(parameters, {"a": "x"}) is None
    assert argument_fault(parameters, {"a": 1}) == 'a: 1 is not of type "string"'


def test_a_schema_that_leads_nowhere_or_in_a_circle_is_refused_with_the_tools_name() -> None:
    with pytest.raises(UserError, match=r"tool 'search': parameters: \$ref: .*missing"):
        toolbox_at("http://127.0.0.1:1/", parameters={"type": "object", "properties": {"a": {"$ref": "#/missing"}}})
    with pytest.raises(UserError, match=r"tool 'search': parameters: a \$ref comes back"):
        toolbox_at("http://127.0.0.1:1/", parameters={"$ref": "#"})


def test_the_first_who_listens_hears_what_was_said_before() -> None:
    notices, heard = Notices(), list[str]()
    notices("warning", "early")
    notices.listen(lambda level, text: heard.append(text))
    notices("info", "late")
    assert heard == ["early", "late"]


@pytest.mark.parametrize(
    "line",
    [
        '{"key": "k", "output": 5, "status": "ok"}',
        '{"key": "k", "output": null, "status": "ok"}',
        '{"key": "k", "output": "a", "status": "banana"}',
        '{"key": "k", "output": "a", "status": ["ok"]}',
        '{"key": "k", "output": "a"}',
        '{"key": ["k"], "output": "a", "status": "ok"}',
        "[]",
        "5",
        "no JSON",
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    good = '{"key": "first", "output": "a", "status": "ok"}'
    (tmp_path / "search.jsonl").write_text(f"{good}\n\n{line}\n")
    with pytest.raises(UserError, match=r"replay: .*search\.jsonl, line 3: "):
        toolbox_at("http://127.0.0.1:1/", replay=tmp_path)


async def test_blank_lines_between_records_are_skipped(tmp_path: Path) -> None:
    async with ChaosServer(script=[ok("one")]) as server:
        toolbox = toolbox_at(server.url, record=tmp_path)
        await run(toolbox.tools["search"])
        await toolbox.close()
    file = tmp_path / "search.jsonl"
    file.write_text(f"\n{file.read_text()}\n  \n")
    replay = toolbox_at("http://127.0.0.1:1/", replay=tmp_path)
    assert (await run(replay.tools["search"])).output == "one"
    await replay.close()
