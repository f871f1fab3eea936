"""Calls in rows against the tools that the model is shown: the row's own, else the job's."""

from typing import Any

import pytest

from agentrft.data import Sample
from agentrft.spec import HttpToolSpec, McpToolSpec, PythonToolSpec
from agentrft.tools import call_judge, create_toolbox, declared_tools, made_tools

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
SEARCH = HttpToolSpec.model_validate({"name": "search", "url": "https://tools.example.com", "parameters": SCHEMA})


def shout(word: str) -> str:
    """Say it loudly."""
    return word.upper()


SHOUT = PythonToolSpec(type="python", function=f"{__name__}:shout")


def sample(name: str, arguments: str, *tools: dict[str, Any]) -> Sample:
    made = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [made]}]
    return Sample("00001-0", messages, [{"type": "function", "function": tool} for tool in tools])


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (sample("search", '{"query": "x"}'), None),
        (sample("search", "{}"), "arguments: they do not fit the parameters of 'search': "),
        (sample("search", '{"query": 5}'), "arguments: they do not fit the parameters of 'search': query: "),
        (sample("find", "{}"), "name: there is no tool 'find'; there are: search"),
        (sample("search", "{}", {"name": "search"}), None),
        (sample("find", "{}", {"name": "search"}), "name: there is no tool 'find'; there are: search"),
        (sample("search", "{}", {"name": "search", "parameters": SCHEMA}), "arguments: they do not fit"),
    ],
)
def test_a_call_of_no_tool_or_that_does_not_fit_is_a_fault_with_its_field(row: Sample, fault: str | None) -> None:
    found = call_judge(declared_tools([SEARCH]))(row)
    if fault is None:
        assert found == []
        return
    assert len(found) == 1 and found[0].startswith(f"messages[1].tool_calls[0].function.{fault}")


def test_without_a_job_only_the_rows_own_tools_are_known() -> None:
    judge = call_judge()
    assert judge(sample("anything", "{}")) == []
    assert judge(sample("anything", "{}", {"name": "find"})) != []


def test_a_rows_faulty_schema_is_named_rather_than_the_call() -> None:
    (fault,) = call_judge()(sample("find", "{}", {"name": "find", "parameters": {"type": "string"}}))
    assert fault.startswith("tools[0].function.parameters: ")


def test_what_is_known_later_is_not_judged_before() -> None:
    declared = declared_tools([SHOUT])
    assert declared.is_complete and not declared.is_whole
    assert call_judge(declared)(sample("shout", '{"number": 1}')) == []
    whole = made_tools(create_toolbox([SHOUT]))
    assert whole.is_whole
    assert call_judge(whole)(sample("shout", '{"number": 1}')) != []
    server = McpToolSpec.model_validate({"type": "mcp", "server_label": "m", "server_url": "https://m.example.com"})
    assert not declared_tools([SEARCH, server]).is_complete
    assert call_judge(declared_tools([SEARCH, server]))(sample("find", "{}")) == []


@pytest.mark.parametrize("arguments", ["{}", '{"query": "x"}'])
def test_a_row_may_describe_only_tools_that_the_job_has(arguments: str) -> None:
    row = sample("find", arguments, {"name": "search"}, {"name": "find"})
    assert call_judge(declared_tools([SEARCH]))(row) == [
        "tools[1].function.name: the job has no tool 'find'; it has: search"
    ]
    assert call_judge(declared_tools([]))(row)[0].endswith("; it has: none")
    assert call_judge()(row) == []
