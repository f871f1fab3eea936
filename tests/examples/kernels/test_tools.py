"""The tools and the grader over real HTTP, in the production wire format."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from examples.kernels.c_source import best
from examples.kernels.graphs import Graph, Step

GRAPH = Graph((Step("relu"), Step("mul", 0.5)))
ITEM = {"graph": GRAPH.as_json()}
RIGHT = best(GRAPH)
WRONG = RIGHT.replace("v>0", "v<0")


def wire_call(name: str, arguments: object, trace_id: str = "trace_1", item: object = ITEM) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": text}
    return {**call, "trace_id": trace_id, "item": item}


async def ask(
    url: str, name: str, arguments: object, trace_id: str = "trace_1", item: object = ITEM
) -> tuple[int, str]:
    """The status, and what the agent reads."""
    async with aiohttp.ClientSession(url) as session:
        async with session.post(f"/tools/{name}", json=wire_call(name, arguments, trace_id, item)) as response:
            body = await response.json()
    return response.status, body.get("output") or body["error"]


async def test_a_kernel_is_compiled_run_and_timed(server_url: str) -> None:
    assert await ask(server_url, "compile", {"source": RIGHT}, "whole") == (200, "ok")
    status, checked = await ask(server_url, "run", {}, "whole")
    assert (status, checked[:14]) == (200, "ok, max error ")
    status, timed = await ask(server_url, "time", {}, "whole")
    assert status == 200
    assert float(timed.removesuffix("x PyTorch")) > 0


async def test_a_wrong_kernel_hears_where_and_by_how_much(server_url: str) -> None:
    await ask(server_url, "compile", {"source": WRONG}, "wrong")
    status, checked = await ask(server_url, "run", {}, "wrong")
    assert status == 200
    assert checked.startswith("wrong: n=")
    assert ", want " in checked
    assert len(checked) < 60


async def test_a_fault_is_told_with_its_place_and_keeps_the_draft_before_it(server_url: str) -> None:
    await ask(server_url, "compile", {"source": RIGHT}, "fault")
    broken = RIGHT.replace("v=v*0.5f", "v=u*0.5f")
    status, told = await ask(server_url, "compile", {"source": broken}, "fault")
    assert status == 200
    assert told.startswith(f"1:{broken.index('u*') + 1}: 'u' undeclared")
    assert (await ask(server_url, "run", {}, "fault"))[1].startswith("ok")


async def test_rollouts_do_not_see_each_others_drafts(server_url: str) -> None:
    await ask(server_url, "compile", {"source": RIGHT}, "mine")
    assert await ask(server_url, "run", {}, "another") == (400, "nothing compiled yet")
    assert await ask(server_url, "time", {}, "a third") == (400, "nothing compiled yet")


@pytest.mark.parametrize("arguments", ["{", "[]", {}, {"source": 3}, {"source": " "}])
async def test_bad_arguments_are_refused_with_a_text_the_model_can_read(server_url: str, arguments: object) -> None:
    status, told = await ask(server_url, "compile", arguments)
    assert status == 400
    assert "must be" in told


async def test_a_row_without_a_graph_is_refused_by_tools_and_grader(server_url: str) -> None:
    status, told = await ask(server_url, "compile", {"source": RIGHT}, item={})
    assert status == 400
    assert "no operator graph" in told
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/grade", json={"sample": {"output_text": "submit"}, "item": {}}) as response:
            assert response.status == 400


async def test_a_refused_source_hears_why(server_url: str) -> None:
    source = RIGHT.replace("v*0.5f", "abs(v)")
    assert await ask(server_url, "compile", {"source": source}) == (200, "no 'abs' here: only functions of math.h")


async def test_twenty_rollouts_at_once_are_all_answered_for_themselves(server_url: str) -> None:
    async def whole(number: int) -> bool:
        source = RIGHT if number % 2 else WRONG
        await ask(server_url, "compile", {"source": source}, f"many {number}")
        return (await ask(server_url, "run", {}, f"many {number}"))[1].startswith("ok")

    assert await asyncio.gather(*(whole(number) for number in range(20))) == [number % 2 == 1 for number in range(20)]


async def test_the_grader_answers_an_endpoint_graders_request(server_url: str) -> None:
    call = {"function": {"name": "compile", "arguments": json.dumps({"source": RIGHT})}}
    sample = {"output_text": "submit", "output_tools": [call], "messages": [], "choices": []}
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/grade", json={"sample": sample, "item": ITEM, "trace_id": "t"}) as response:
            answer = await response.json()
    assert 0.5 <= answer["score"] <= 1
    assert answer["sub_scores"]["correct"] == 1
    assert answer["reason"].endswith("x PyTorch")
