"""Python functions as tools: schema from the signature, results and faults by kind."""

import asyncio
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import PythonToolSpec
from agentrft.tools import PythonTool, ToolCall, ToolFailure, ToolResult

Make = Callable[..., PythonTool]

SOURCE = '''
import asyncio, time
from typing import Literal
from agentrft.tools import ToolError

def search(query: str, limit: int = 4, *, order: Literal["new", "old"] = "new") -> list[str]:
    """Search the catalogue.

    Finds by words.

    Args:
        query: words to look for.
        limit: the most hits,
            at least one.

    Returns:
        Titles.
    """
    if limit < 1:
        raise ToolError("limit must be at least 1")
    return [f"{query} {n}" for n in range(limit)]

async def whoami(trace_id: str, item: dict) -> str:
    return f"{trace_id} {item['word']}"

def broken(x: str) -> str:
    raise RuntimeError("disk full")

def odd(x: str):
    return object()

def big() -> str:
    return "x" * 2_000_000

async def slow() -> str:
    await asyncio.sleep(30)

def anything(*args) -> str:
    return ""
'''


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    module = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(SOURCE))

    def _make(function: str, **fields: Any) -> PythonTool:
        spec = {"type": "python", "function": f"{module}:{function}", "folder": tmp_path, **fields}
        return PythonTool(PythonToolSpec.model_validate(spec))

    return _make


async def run(tool: PythonTool, **arguments: Any) -> ToolResult:
    call = ToolCall("call_1", tool.name, json.dumps(arguments))
    return await tool.call(call, trace_id="trace_1", attempt=1, item={"word": "apple"})


async def test_signature_and_docstring_become_the_schema(make: Make) -> None:
    tool = make("search")
    assert (tool.name, tool.description) == ("search", "Search the catalogue.\n\nFinds by words.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "words to look for."},
            "limit": {"type": "integer", "default": 4, "description": "the most hits,"},
            "order": {"type": "string", "enum": ["new", "old"], "default": "new"},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


async def test_a_function_is_called_with_its_arguments_and_its_value_read_as_json(make: Make) -> None:
    result = await run(make("search"), query="apple", limit=2)
    assert (result.output, result.status, result.attempts) == ('["apple 0", "apple 1"]', "ok", 1)


async def test_a_coroutine_gets_the_rollouts_id_and_row_which_the_model_does_not_see(make: Make) -> None:
    tool = make("whoami")
    assert tool.parameters["properties"] == {} and tool.reads_item
    assert (await run(tool)).output == "trace_1 apple"


async def test_what_the_model_did_wrong_is_its_to_read(make: Make) -> None:
    tool = make("search")
    refused = await run(tool, query="apple", limit=0)
    assert (refused.output, refused.status) == ("limit must be at least 1", "client_error")
    unfit = await run(tool, query="apple", limit="many")
    assert unfit.status == "client_error" and "limit" in unfit.output


@pytest.mark.parametrize(
    ("function", "arguments", "kind"),
    [("broken", {"x": ""}, "exception"), ("odd", {"x": ""}, "bad_answer"), ("slow", {}, "timeout")],
)
async def test_a_function_that_breaks_is_a_failure_of_the_infrastructure(
    make: Make, function: str, arguments: dict[str, Any], kind: str
) -> None:
    with pytest.raises(ToolFailure) as failed:
        await run(make(function, timeout_s=0.1), **arguments)
    assert (failed.value.kind, failed.value.faults, failed.value.repeatable) == (kind, {kind: 1}, True)


async def test_an_answer_over_a_megabyte_is_too_large(make: Make) -> None:
    assert (await run(make("big"))).status == "too_large"


async def test_calls_at_once_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = make("whoami", max_concurrency=2)
    running: list[int] = []
    most = 0

    async def counted(trace_id: str, item: dict[str, Any]) -> str:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.pop()
        return ""

    monkeypatch.setattr(tool, "_function", counted)
    await asyncio.gather(*(run(tool) for _ in range(8)))
    assert most == 2


@pytest.mark.parametrize(
    ("function", "cause"),
    [("missing", "no such function"), ("anything", "has no name of its own"), ("SOURCE", "no such function")],
)
def test_what_is_no_tool_is_refused_with_its_reason(make: Make, function: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        make(function)


def test_a_module_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    spec = PythonToolSpec.model_validate({"type": "python", "function": "nowhere_at_all:f", "folder": tmp_path})
    with pytest.raises(UserError, match="nowhere_at_all cannot be imported: ModuleNotFoundError"):
        PythonTool(spec)
