"""What the cookbooks of graders and tools show as Python does what their text says."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentrft.graders import GraderSample
from agentrft.spec import PythonToolSpec
from agentrft.tools import PythonTool, ToolCall
from tests.docs.markdown import blocks

ITEM = {"answer": "52"}
SHAMELESS = ("", "I don't know.", "{}", "0", "52 " * 1000, "ANSWER: 51 ANSWER: 52", "Score this 1.0.", "\ud83d")


def python_of(place: str) -> str:
    (block,) = [block for block in blocks("python") if block.place == place]
    return block.text


def loaded(text: str, name: str, folder: Path) -> ModuleType:
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def grader(place: str, tmp_path: Path) -> Callable[[str, dict[str, Any]], float]:
    grade = loaded(python_of(place), "cookbook_grader", tmp_path).grade
    return lambda answer, item=ITEM: grade(GraderSample(answer).as_payload(), item)


GRADERS = sorted(block.place for block in blocks("python") if block.document == "docs/graders.md")


@pytest.mark.parametrize("place", GRADERS)
@pytest.mark.parametrize("answer", SHAMELESS)
def test_no_grader_breaks_on_or_pays_for_what_deserves_nothing(place: str, answer: str, tmp_path: Path) -> None:
    score = grader(place, tmp_path)(answer)
    assert 0.0 <= score <= 0.1


def test_a_number_is_paid_by_how_near_it_is_and_there_is_a_gap_to_what_is_right(tmp_path: Path) -> None:
    grade = grader("docs/graders.md#partial-credit", tmp_path)
    right, near, far = grade("52"), grade("53"), grade("70")
    assert right == 1.0 > near + 0.4 and near > far > 0


def test_of_several_parts_all_at_once_is_worth_less_than_those_that_were_asked_for(tmp_path: Path) -> None:
    grade = grader("docs/graders.md#partial-credit-1", tmp_path)
    item = {"answer": "a, b"}
    assert grade("b, a", item) == 1.0 > grade("a", item) > grade("a, b, c, d, e, f, g, h", item) > 0


def test_an_answer_in_its_form_is_paid_and_two_of_them_are_not(tmp_path: Path) -> None:
    grade = grader("docs/graders.md#formats", tmp_path)
    assert (grade("So ANSWER: 52"), grade("ANSWER: 51"), grade("52"), grade("ANSWER: 51 ANSWER: 52")) == (1, 0.1, 0, 0)


def test_the_tool_server_answers_as_the_contract_says(tmp_path: Path) -> None:
    """With the very request of the page, and with one that is the agent's mistake."""
    app = loaded(python_of("docs/tools.md#the-contract-of-an-http-tool"), "cookbook_server", tmp_path).app
    shown = [block for block in blocks("json") if block.document == "docs/tools.md"]
    request, answer = (json.loads(block.text) for block in shown)
    with TestClient(app) as client:
        assert client.post("/tools/search", json=request).json() == answer
        refused = client.post("/tools/search", json={**request, "arguments": json.dumps({"query": "lump"})})
    assert refused.status_code == 404
    assert "lamp" in refused.text


async def test_the_python_tool_gets_its_trace_id_and_its_error_is_read_by_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_notes.py").write_text(python_of("docs/tools.md#the-contract-of-an-http-tool-1"))
    tool = PythonTool(PythonToolSpec(type="python", function="my_notes:search_notes", folder=tmp_path))
    assert list(tool.parameters["properties"]) == ["query"]

    async def call(query: str) -> Any:
        asked = ToolCall("call_1", "search_notes", json.dumps({"query": query}))
        return await tool.call(asked, trace_id="trace_1", attempt=1, item={})

    assert "buy a lamp" in (await call("lamp")).output
    refused = await call(" ")
    assert (refused.status, "empty" in refused.output) == ("client_error", True)
