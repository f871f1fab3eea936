"""Tools and their rules as a job file writes them."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import HttpToolSpec, JobSpec, McpToolSpec, PythonToolSpec, parse_job

GRADER = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}


def job(tools: list[dict[str, Any]], **rules: Any) -> JobSpec:
    inner = {"tools": tools, "grader": GRADER, **rules}
    raw = {"model": "m", "training_file": "t.jsonl", "method": {"type": "reinforcement", "reinforcement": inner}}
    return parse_job(raw, folder=Path("/jobs"))


def refusal(tools: list[dict[str, Any]], **rules: Any) -> str:
    with pytest.raises(UserError) as refused:
        job(tools, **rules)
    return str(refused.value)


SEARCH = {"name": "search", "url": "http://127.0.0.1:1/search"}


def test_a_tool_without_a_type_is_an_endpoint_and_kinds_mix() -> None:
    server = {"type": "mcp", "server_label": "files", "command": "files-server", "args": ["--all"]}
    tools = job([SEARCH, server, {"type": "python", "function": "tools:add"}]).tools
    assert [type(tool) for tool in tools] == [HttpToolSpec, McpToolSpec, PythonToolSpec]
    assert isinstance(tools[0], HttpToolSpec) and str(tools[0].server_url) == "http://127.0.0.1:1/search"
    assert isinstance(tools[2], PythonToolSpec) and tools[2].folder == Path("/jobs")


def test_folders_of_recordings_are_taken_from_the_job_files() -> None:
    (tool,) = job([{**SEARCH, "record": "calls", "replay": "/elsewhere"}]).tools
    assert (tool.record, tool.replay) == (Path("/jobs/calls"), Path("/elsewhere"))


def test_a_stored_job_reads_back_as_itself() -> None:
    spec = job(
        [{**SEARCH, "cache": True}, {"type": "python", "function": "tools:add"}],
        tool_choice={"type": "function", "name": "add"},
        on_rollout_start="http://127.0.0.1:1/start",
    )
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("tool", "field", "accepted"),
    [
        ({**SEARCH, "timeout": 5}, "timeout", "timeout_s"),
        ({"type": "mcp", "server_label": "x", "command": "y", "server_lable": "z"}, "server_lable", "server_label"),
        ({"type": "python", "function": "a:b", "functoin": "c"}, "functoin", "function"),
    ],
)
def test_an_unknown_field_is_refused_with_those_that_its_kind_has(
    tool: dict[str, Any], field: str, accepted: str
) -> None:
    said = refusal([tool])
    assert f"unknown field '{field}'" in said and f"did you mean '{accepted}'" in said


def test_an_unknown_kind_is_refused_with_the_kinds() -> None:
    said = refusal([{**SEARCH, "type": "web_search"}])
    assert "tools.0: type: expected one of 'http', 'mcp', 'python', found 'web_search'" in said


def test_a_tool_of_type_function_is_an_http_tool() -> None:
    (tool,) = job([{**SEARCH, "type": "function"}]).tools
    assert isinstance(tool, HttpToolSpec)
    assert (tool.type, tool.name) == ("http", "search")


def test_begin_and_end_of_a_rollout_are_a_url_or_more() -> None:
    more = {"url": "http://127.0.0.1:1/end", "timeout_s": 5}
    spec = job([SEARCH], on_rollout_start="http://127.0.0.1:1/start", on_rollout_end=more)
    assert spec.on_rollout_start is not None and str(spec.on_rollout_start.url) == "http://127.0.0.1:1/start"
    assert spec.on_rollout_end is not None and spec.on_rollout_end.timeout_s == 5


@pytest.mark.parametrize(
    "choice", [{"type": "function", "function": {"name": "search"}}, {"type": "function", "name": "search"}]
)
def test_a_tool_that_comes_first_is_named_as_either_api_does(choice: dict[str, Any]) -> None:
    named = job([SEARCH], tool_choice=choice).tool_choice
    assert not isinstance(named, str) and named.function.name == "search"


@pytest.mark.parametrize(
    ("tools", "rules", "said"),
    [
        ([SEARCH], {"tool_choice": {"type": "function", "name": "fetch"}}, "no tool 'fetch'; the job has: search"),
        ([], {"tool_choice": "required"}, "'required' without any tool"),
        ([SEARCH], {"tool_choice": "any"}, "tool_choice"),
        ([SEARCH], {"max_tool_calls": 0}, "max_tool_calls"),
        ([SEARCH, SEARCH], {}, "two tools share the name"),
        ([{**SEARCH, "name": "add"}, {"type": "python", "function": "m:add"}], {}, "two tools share the name"),
        ([{"type": "python", "function": "nothing"}], {}, "module:function"),
    ],
)
def test_rules_that_cannot_hold_are_refused(tools: list[dict[str, Any]], rules: dict[str, Any], said: str) -> None:
    assert said in refusal(tools, **rules)


@pytest.mark.parametrize("schema", [{"$ref": "#/$defs/missing"}, {"$ref": "#"}, {"type": "text"}])
def test_an_answers_schema_that_cannot_be_checked_is_refused_with_its_field(schema: dict[str, Any]) -> None:
    answer = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert "json_schema.schema" in refusal([SEARCH], response_format=answer)


@pytest.mark.parametrize(
    "schema", [{"type": "object", "$ref": "#/$defs/missing"}, {"$ref": "#"}, {"type": "array"}, {"required": 3}]
)
@pytest.mark.parametrize("tool", [SEARCH, {"type": "python", "function": "tools:add"}])
def test_a_tools_schema_that_cannot_be_checked_is_refused_with_its_field(
    tool: dict[str, Any], schema: dict[str, Any]
) -> None:
    assert "method.reinforcement.tools[0].parameters: " in refusal([{**tool, "parameters": schema}])


def test_an_answers_schema_says_what_of_it_is_not_enforced() -> None:
    schema = {"type": "object", "properties": {"a": {"pattern": "(a"}}}
    answer = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    spec = job([SEARCH], response_format=answer)
    assert spec.response_format is not None and "properties.a.pattern" in spec.response_format.unenforced[0]
