"""`agentrft init` writes a project whose parts fit together as they are."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest

from agentrft.cli.init import write_project
from agentrft.data.samples import load_demonstrations, load_samples
from agentrft.errors import UserError
from agentrft.spec import load_job


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("init") / "new" / "project"
    write_project(directory)
    return directory


@pytest.fixture(scope="module")
def tool_server(project: Path) -> ModuleType:
    return _module(project / "tool_server.py")


@pytest.fixture(scope="module")
def server_url(project: Path) -> Iterator[str]:
    """The written server, started as its README says, on a free port."""
    command = [sys.executable, "tool_server.py", "--port", "0"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the server ended before it listened"
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
        yield found.group()
        process.terminate()


def test_all_files_are_written_and_named(tmp_path: Path) -> None:
    written = write_project(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "README.md",
        "data/demonstrations.jsonl",
        "data/train.jsonl",
        "data/validation.jsonl",
        "grader.py",
        "job.yaml",
        "tool_server.py",
    ]
    assert all(path.stat().st_size > 0 for path in written)


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        write_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        write_project(tmp_path / "project")


def test_the_job_and_its_data_load(project: Path) -> None:
    job = load_job(project / "job.yaml")
    assert job.validation_file is not None
    assert job.warm_start is not None
    assert len(load_samples(job.training_file)) == 24
    assert len(load_samples(job.validation_file)) == 12
    assert len(load_demonstrations(job.warm_start.training_file)) == 40


def test_no_product_is_in_two_data_files(project: Path) -> None:
    products = [{row["product"] for row in _rows(project, name)} for name in ("train", "validation", "demonstrations")]
    assert sum(map(len, products)) == len(set().union(*products))


def test_every_answer_is_in_the_catalogue(project: Path, tool_server: ModuleType) -> None:
    for name in ("train", "validation", "demonstrations"):
        for row in _rows(project, name):
            assert row["product"] in row["messages"][1]["content"]
            assert int(row["answer"]) in tool_server.CATALOGUE[row["product"]]


def test_the_demonstrations_show_what_the_tool_answers_and_reach_the_answer(
    project: Path, tool_server: ModuleType
) -> None:
    for row in _rows(project, "demonstrations"):
        calls = [call for message in row["messages"] for call in message.get("tool_calls", [])]
        results = [message["content"] for message in row["messages"] if message["role"] == "tool"]
        queries = [json.loads(call["function"]["arguments"])["product"] for call in calls]
        assert results == [tool_server.look_up(query) for query in queries]
        assert row["messages"][-1]["content"] == row["answer"]


async def test_the_server_answers_a_call(project: Path, server_url: str) -> None:
    path = load_job(project / "job.yaml").tools[0].server_url.path
    assert path is not None
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "lookup", "item": {}}
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post(path, json={**call, "arguments": '{"product": "claw hammer"}'}) as response:
            answer = await response.json()
        async with session.post(path, json={**call, "arguments": "{}"}) as response:
            refused = response.status
    assert answer["type"] == "function_call_output"
    assert answer["call_id"] == "call_1"
    assert re.fullmatch(r"claw hammer: price \d+, stock \d+", answer["output"])
    assert refused == 400


def test_an_incomplete_name_shows_every_product_that_fits(tool_server: ModuleType) -> None:
    assert len(tool_server.look_up("hammer").splitlines()) == 4
    assert tool_server.look_up("submarine") == "no such product"


@pytest.mark.parametrize(("text", "n_calls", "score"), [("14", 1, 1.0), (" 14\n", 3, 0.8), ("It is 14", 1, 0.0)])
def test_the_grade_is_for_the_number_alone(project: Path, text: str, n_calls: int, score: float) -> None:
    sample = {"output_text": text, "output_tools": [{}] * n_calls}
    assert _module(project / "grader.py").grade(sample, {"answer": "14"}) == pytest.approx(score)


def _rows(project: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (project / "data" / f"{name}.jsonl").read_text().splitlines()]


def _module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"written_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
