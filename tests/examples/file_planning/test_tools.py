"""The tool server over HTTP: each rollout in its row's repository, and every mistake answered in words."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from examples.file_planning.make_data import read_rows


@pytest.fixture(scope="module")
def row(data: Path) -> dict[str, Any]:
    return next(row for row in read_rows(data / "test.jsonl") if row["kind"] == "symbol")


async def post(url: str, tool: str, arguments: object, row: dict[str, Any], trace_id: str = "trace_1") -> Any:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool, "arguments": text}
    async with aiohttp.ClientSession(url) as session:
        body = {**call, "trace_id": trace_id, "item": row}
        async with session.post(f"/tools/{tool}", json=body) as response:
            return response.status, await response.json()


async def output_of(url: str, tool: str, arguments: object, row: dict[str, Any], trace_id: str = "trace_1") -> str:
    status, answer = await post(url, tool, arguments, row, trace_id)
    assert status == 200, answer
    assert answer["type"] == "function_call_output"
    assert answer["call_id"] == "call_1"
    return answer["output"]


async def test_a_search_for_the_name_in_a_request_lists_its_file(server_url: str, row: dict[str, Any]) -> None:
    name = row["request"].split("`")[1]
    output = await output_of(server_url, "shell", {"command": f"grep -rlw {name} ."}, row)
    assert "./" + row["files"][0] in output.splitlines()
    assert 2 <= len(output.splitlines()) <= 6


async def test_outputs_are_short(server_url: str, row: dict[str, Any]) -> None:
    calls = [("shell", {"command": "grep -rn e ."}), ("read_file", {"path": row["files"][0]})]
    for tool, arguments in calls:
        lines = (await output_of(server_url, tool, arguments, row)).splitlines()
        assert len(lines) == 9
        assert lines[-1].endswith("more lines)")
        assert max(map(len, lines)) <= 72


async def test_lines_of_a_file_are_read_by_number(server_url: str, row: dict[str, Any], data: Path) -> None:
    path = row["files"][0]
    text = (data / "repositories" / row["repository"] / path).read_text()
    output = await output_of(server_url, "read_file", {"path": path, "start": 2, "end": 4}, row)
    expected = [line if len(line) <= 72 else line[:71] + "…" for line in text.splitlines()[1:4]]
    assert output.splitlines() == "\n".join(expected).splitlines()
    assert await output_of(server_url, "read_file", {"path": path, "start": 10**9}, row) == "(nothing)"


async def test_the_working_directory_is_each_rollouts_own_until_its_next_attempt(
    server_url: str, row: dict[str, Any], data: Path
) -> None:
    folder = data / "repositories" / row["repository"] / "below"
    folder.mkdir(exist_ok=True)
    (folder / "only.txt").write_text("")
    await output_of(server_url, "shell", {"command": "cd below"}, row, "trace_a")
    assert await output_of(server_url, "shell", {"command": "ls *.txt"}, row, "trace_a") == "only.txt"
    assert "only.txt" not in await output_of(server_url, "shell", {"command": "ls"}, row, "trace_b")
    async with aiohttp.ClientSession(server_url) as session:
        begun = {"type": "rollout_start", "trace_id": "trace_a", "attempt": 2, "item": row}
        async with session.post("/hooks/start", json=begun) as response:
            assert response.status == 200
    assert await output_of(server_url, "shell", {"command": "ls below"}, row, "trace_a") == "only.txt"


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("shell", "{", "must be JSON"),
        ("shell", "[]", "must be a JSON object"),
        ("shell", {}, "command must be"),
        ("shell", {"command": 3}, "command must be"),
        ("shell", {"command": " "}, "command must be"),
        ("shell", {"command": "cat /etc/passwd"}, "outside of the repository"),
        ("shell", {"command": "rm -r ."}, "no such program"),
        ("read_file", {}, "path must be"),
        ("read_file", {"path": "no.py"}, "no such file"),
        ("read_file", {"path": "."}, "no such file"),
        ("read_file", {"path": "/etc/passwd"}, "outside of the repository"),
        ("read_file", {"path": "../../train.jsonl"}, "outside of the repository"),
        ("read_file", {"path": "\0"}, "control character"),
        ("read_file", {"path": "__init__.py", "start": 0}, "start must be"),
        ("read_file", {"path": "__init__.py", "end": "9"}, "end must be"),
        ("read_file", {"path": "__init__.py", "start": True}, "start must be"),
    ],
)
async def test_bad_arguments_are_refused_with_a_text_the_model_can_read(
    server_url: str, row: dict[str, Any], tool: str, arguments: object, words: str
) -> None:
    status, answer = await post(server_url, tool, arguments, row)
    assert (status, words in answer["error"]) == (400, True), answer


@pytest.mark.parametrize("repository", [None, "", "..", "../data", "nowhere", "a/b", 3])
async def test_a_row_that_names_no_repository_of_the_data_opens_none(server_url: str, repository: object) -> None:
    status, answer = await post(server_url, "shell", {"command": "ls"}, {"repository": repository})
    assert (status, answer) == (400, {"error": "the row names no repository that is here"})


async def test_fifty_calls_at_once_are_all_answered_alike(server_url: str, row: dict[str, Any]) -> None:
    calls = (output_of(server_url, "shell", {"command": "ls"}, row, f"trace_{n}") for n in range(50))
    assert len(set(await asyncio.gather(*calls))) == 1
