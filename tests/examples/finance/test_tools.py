"""The tools over HTTP, in the production wire format, with arguments of every kind."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from examples.finance.corpus import Filing, load_corpus


@pytest.fixture(scope="module")
def filing(data: Path) -> Filing:
    return load_corpus(data / "corpus.jsonl")[0]


async def called(url: str, name: str, arguments: dict[str, Any] | str) -> tuple[int, dict[str, Any]]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    body = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": text, "item": {}}
    async with aiohttp.ClientSession(url) as session:
        async with session.post(f"/tools/{name}", json={**body, "trace_id": "trace_1"}) as response:
            return response.status, await response.json()


async def test_list_names_the_sections_of_a_filing_by_code_or_by_name(server_url: str, filing: Filing) -> None:
    for company in (filing.code, filing.company, filing.code.lower()):
        status, answer = await called(server_url, "list", {"company": company})
        assert status == 200
        assert answer["type"] == "function_call_output" and answer["call_id"] == "call_1"
        assert [line.split()[0] for line in answer["output"].splitlines()] == [one.id for one in filing.sections]


async def test_search_says_where_to_read_and_shows_no_figures(server_url: str, filing: Filing) -> None:
    table = next(one for one in filing.sections if "-T" in one.id)
    query = f"{filing.company} {filing.code} {table.title} {table.labels[0]}"
    _, answer = await called(server_url, "search", {"query": query})
    lines = answer["output"].splitlines()
    assert len(lines) == 4
    assert any(line.startswith(table.id) and table.labels[0] in line for line in lines)
    for line in lines:
        assert not any(character.isdigit() for character in line.split(" ", 1)[1])


async def test_cat_shows_a_section_with_its_id_first(server_url: str, filing: Filing) -> None:
    for section in filing.sections:
        _, answer = await called(server_url, "cat", {"id": f" {section.id.lower()} "})
        assert answer["output"] == section.text
        assert answer["output"].startswith(f"{section.id} ")


async def test_calculate_answers_with_a_number(server_url: str) -> None:
    _, answer = await called(server_url, "calculate", {"expression": "(8,412 - 7,901) / 7,901 * 100"})
    assert answer["output"] == "6.4675"


@pytest.mark.parametrize("name", ["list", "search", "cat", "calculate"])
@pytest.mark.parametrize("arguments", ["{", "[]", "{}", '{"%": 3}', '{"%": " "}', '{"%": null}', '{"%": ["31415"]}'])
async def test_bad_arguments_are_refused_with_a_text_that_helps(server_url: str, name: str, arguments: str) -> None:
    argument = {"list": "company", "search": "query", "cat": "id", "calculate": "expression"}[name]
    status, answer = await called(server_url, name, arguments.replace("%", argument))
    assert status == 400
    assert "must be" in answer["error"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list", {"company": "31415"}),
        ("cat", {"id": "31415"}),
        ("cat", {"id": "../../etc/passwd 31415"}),
        ("calculate", {"expression": "31415 +"}),
        ("calculate", {"expression": "x31415"}),
    ],
)
async def test_no_error_repeats_what_it_was_given(server_url: str, name: str, arguments: dict[str, str]) -> None:
    status, answer = await called(server_url, name, arguments)
    assert status == 400
    assert "31415" not in answer["error"]


async def test_a_search_for_unknown_words_finds_nothing_and_repeats_nothing(server_url: str) -> None:
    assert (await called(server_url, "search", {"query": "qqqq 31415 the"}))[1]["output"] == "no hits"


async def test_an_unknown_tool_is_not_found(server_url: str) -> None:
    assert (await called(server_url, "shell", {}))[0] == 404


async def test_fifty_calls_at_once_are_all_answered_alike(server_url: str, filing: Filing) -> None:
    query = {"query": f"{filing.company} {filing.code}"}
    answers = await asyncio.gather(*(called(server_url, "search", query) for _ in range(50)))
    assert len({answer["output"] for _, answer in answers}) == 1


async def test_the_grader_is_an_endpoint_too_with_its_sub_scores(server_url: str) -> None:
    item = {"answer": 5.0, "unit": "percent", "sources": ["ABC-T1"], "evidence": ["5"], "turns": 3}
    async with aiohttp.ClientSession(server_url) as session:
        payload = {"sample": {"output_text": "ANSWER: 5 %", "messages": []}, "item": item, "trace_id": "trace_1"}
        async with session.post("/grade", json=payload) as response:
            answer = await response.json()
    assert answer == {"score": 0.4, "sub_scores": {"answer": 1.0, "citation": 0.0, "supported": 0.0}}
