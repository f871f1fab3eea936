"""The Responses API remembers: `previous_response_id`, references to items, and how long and how much is kept."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from sqlalchemy import update

from agentrft.server.app import create_app
from agentrft.server.background.expiry import RESPONSE_AGE_S, clean_once
from agentrft.server.context import Context
from agentrft.server.response_store import conversation
from agentrft.server.settings import Settings
from agentrft.store import tables
from tests.job.tiny_job import COLOURS, TOOL
from tests.server.live import MODEL, Live
from tests.store.databases import database_of

FLAT_TOOL: Any = {"type": "function", **TOOL}
QUESTION = "Colour of apple?"


def respond(client: OpenAI, given: Any = QUESTION, **more: Any) -> Any:
    return client.responses.create(model=MODEL, input=given, **{"temperature": 0, "max_output_tokens": 16, **more})


def tokens(client: OpenAI, given: Any, **more: Any) -> int:
    return respond(client, given, **more).usage.input_tokens


def test_a_tool_loop_sends_only_what_is_new(client: OpenAI) -> None:
    first = respond(client, tools=[FLAT_TOOL], tool_choice="required", max_output_tokens=64)
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "fine"}
    question = {"role": "user", "content": QUESTION}
    whole = respond(client, [question, call.model_dump(), result], tools=[FLAT_TOOL])
    second = respond(client, [result], tools=[FLAT_TOOL], previous_response_id=first.id)
    third = respond(client, "Why?", previous_response_id=second.id)

    assert second.usage.input_tokens == whole.usage.input_tokens
    # In bfloat16 they may differ: the four answers are as likely as each other, and one pass had cached tokens.
    assert {second.output_text, whole.output_text} <= set(COLOURS)
    assert (second.previous_response_id, second.store) == (first.id, True)
    said = [item.model_dump() for item in second.output]
    all_of_it = [question, call.model_dump(), result, *said, {"role": "user", "content": "Why?"}]
    assert third.usage.input_tokens == tokens(client, all_of_it)


def test_instructions_are_not_carried_over(client: OpenAI) -> None:
    first = respond(client, instructions="Answer with one word, and no more than that.")
    plain = respond(client)
    went_on = [
        respond(client, "Why?", previous_response_id=one.id).usage.input_tokens - one.usage.output_tokens
        for one in (first, plain)
    ]
    assert first.usage.input_tokens > plain.usage.input_tokens
    assert went_on[0] == went_on[1]


def test_items_are_named_by_their_ids(client: OpenAI) -> None:
    first = respond(client, tools=[FLAT_TOOL], tool_choice="required", max_output_tokens=64)
    (call,) = first.output
    question = {"role": "user", "content": QUESTION}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "fine"}
    expected = tokens(client, [question, call.model_dump(), result])
    for reference in ({"type": "item_reference", "id": call.id}, {"id": call.id}):
        named = respond(client, [question, reference, result])
        assert named.usage.input_tokens == expected
        # What was named is stored as what it stands for.
        client.responses.delete(first.id) if "type" not in reference else None
    assert tokens(client, "Why?", previous_response_id=named.id) > expected
    with pytest.raises(NotFoundError, match="not found") as raised:
        respond(client, [question, {"type": "item_reference", "id": call.id}, result])
    assert raised.value.param == "input[1]"


def test_a_stream_is_stored_before_its_end_is_read(client: OpenAI) -> None:
    for _ in range(3):
        events = list(respond(client, stream=True))
        assert events[-1].type in ("response.completed", "response.incomplete")
        stored = client.responses.retrieve(events[-1].response.id)
        assert stored == events[-1].response
        assert tokens(client, "Why?", previous_response_id=stored.id) > stored.usage.input_tokens  # type: ignore[union-attr]


def test_what_is_not_stored_cannot_be_gone_on_from(client: OpenAI) -> None:
    unstored, stored = respond(client, store=False), respond(client)
    assert unstored.store is False and client.responses.retrieve(stored.id) == stored
    client.responses.delete(stored.id)
    for response_id in (unstored.id, stored.id, "resp_none"):
        with pytest.raises(BadRequestError, match="not found") as raised:
            respond(client, "Why?", previous_response_id=response_id)
        assert (raised.value.code, raised.value.param) == ("previous_response_not_found", "previous_response_id")
        with pytest.raises(NotFoundError):
            client.responses.retrieve(response_id)
        with pytest.raises(NotFoundError):
            client.responses.delete(response_id)


def test_items_before_the_request_come_from_the_server_alone(server: Live) -> None:
    body = {"model": MODEL, "input": "x", "earlier_items": [{"role": "user", "content": "y"}]}
    answer = httpx.post(f"{server.url}/responses", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "earlier_items"


def test_a_fault_is_named_by_its_place_in_what_was_sent(client: OpenAI) -> None:
    first = respond(client)
    with pytest.raises(BadRequestError) as raised:
        respond(client, [{"role": "user", "content": "x", "name": "Ann"}], previous_response_id=first.id)
    assert raised.value.param == "input[0].name"


def opened(folder: Path) -> Context:
    settings = Settings(folder, database=database_of(folder), max_running_jobs=0)
    return create_app(settings).state.context


def test_another_start_with_the_same_database_knows_what_was_stored(tmp_path: Path) -> None:
    response, items = {"id": "resp_1", "output": [{"id": "msg_1"}]}, [{"role": "user", "content": "\0 ü \ud800"}]
    first = opened(tmp_path)
    first.records.add_response(response, items)
    stored = opened(tmp_path).records.response("resp_1")
    assert stored is not None and stored.response == response and stored.items[0]["content"].startswith("\0 ü ")
    assert conversation(stored) == [*stored.items, {"id": "msg_1"}]


def test_the_oldest_go_when_there_are_too_many_or_they_are_old(tmp_path: Path) -> None:
    served = opened(tmp_path)
    records = served.records
    for number in range(10):
        records.add_response({"id": f"resp_{number}", "output": []}, [{"role": "user", "content": "ü" * 500}])
    size = len(json.dumps({"x": "ü" * 500}, ensure_ascii=False).encode())

    assert records.trim_responses(0, most_bytes=100 * size) == 0
    assert records.trim_responses(0, most_bytes=4 * (size + 100)) == 6
    assert [number for number in range(10) if records.response(f"resp_{number}")] == [6, 7, 8, 9]
    with served.store.database.write() as connection:
        old = tables.stored_responses.c.response_id.in_(["resp_6", "resp_7"])
        then = time.time() - RESPONSE_AGE_S - 1
        connection.execute(update(tables.stored_responses).where(old).values(created_at=then))
    clean_once(served)
    assert [number for number in range(10) if records.response(f"resp_{number}")] == [8, 9]
