"""Functions as tool endpoints: the wire format, bad calls as what the agent reads, state of each rollout."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.common.tool_server import BadArguments, Call, PerRollout, tool_app


@pytest.fixture
def client() -> Iterator[TestClient]:
    notes: PerRollout[list[str]] = PerRollout(list, most=2)

    async def echo(call: Call) -> str:
        return call.text("text")

    def note(call: Call) -> str:
        notes(call.trace_id).append(call.text("text"))
        return " ".join(notes(call.trace_id))

    def row(call: Call) -> str:
        return json.dumps(call.item)

    def refuse(call: Call) -> str:
        raise BadArguments("never works")

    with TestClient(tool_app("test", lambda: {"echo": echo, "note": note, "refuse": refuse, "row": row})) as client:
        yield client


def call(client: TestClient, name: str, arguments: Any, trace_id: str = "trace_1") -> Any:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    body = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": text}
    return client.post(f"/tools/{name}", json={**body, "trace_id": trace_id, "item": {"answer": 4}})


def test_a_call_is_answered_in_the_wire_format(client: TestClient) -> None:
    answer = call(client, "echo", {"text": "héllo"})
    assert answer.status_code == 200
    assert answer.json() == {"type": "function_call_output", "call_id": "call_1", "output": "héllo"}


def test_a_tool_sees_the_samples_row(client: TestClient) -> None:
    assert call(client, "row", {}).json()["output"] == '{"answer": 4}'


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("echo", "{", "must be JSON"),
        ("echo", "[" * 100_000, "must be JSON"),
        ("echo", "[1]", "a JSON object"),
        ("echo", {}, "text must be a non-empty string"),
        ("echo", {"text": "  "}, "text must be a non-empty string"),
        ("echo", {"text": 3}, "text must be a non-empty string"),
        ("refuse", {}, "never works"),
    ],
)
def test_a_bad_call_is_what_the_agent_reads(client: TestClient, name: str, arguments: Any, says: str) -> None:
    answer = call(client, name, arguments)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_a_tool_that_is_not_there_is_no_error_of_the_agents(client: TestClient) -> None:
    assert call(client, "nothing", {}).status_code == 404


def test_each_rollout_has_state_of_its_own_and_the_oldest_is_forgotten(client: TestClient) -> None:
    said = [
        call(client, "note", {"text": text}, trace_id).json()["output"]
        for text, trace_id in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "three"), ("e", "two"), ("f", "one")]
    ]
    assert said == ["a", "b", "a c", "d", "e", "f"], "two are kept: the second came back, the first after three others"
