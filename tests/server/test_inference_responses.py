import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, InternalServerError, OpenAI

from tests.job.tiny_job import ARGUMENTS, COLOURS, TOOL
from tests.server.inference_models import JSON_ANSWER, LONG_ANSWER, SCHEMA
from tests.server.inference_server import REAL_VLLM, RunningServer, running_by

FLAT_TOOL = {"type": "function", **TOOL}
SCHEMA_FORMAT = {"format": {"type": "json_schema", "name": "colour", "schema": SCHEMA, "strict": True}}
QUESTION = "Colour of apple?"


@pytest.fixture(scope="module", params=["embedded", REAL_VLLM])
def server(tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_by(request, tiny_model, "tiny_vllm") as server:
        yield server


def respond(client: OpenAI, given: Any = QUESTION, **changes: Any) -> Any:
    return client.responses.create(model="tiny", input=given, **{"temperature": 0, **changes})


def test_a_text_answer(server: RunningServer) -> None:
    answer = respond(server.client("white"))

    assert answer.output_text == "white"
    assert answer.status == "completed"
    assert answer.id.startswith("resp_") and answer.output[0].id.startswith("msg_")
    assert answer.usage.output_tokens == 2
    assert answer.usage.total_tokens == answer.usage.input_tokens + 2


def test_instructions_are_the_system_message(server: RunningServer) -> None:
    client = server.client("white")
    instructed = respond(client, instructions="Be brief.")
    listed = respond(client, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}])
    parts = respond(client, [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}])

    assert instructed.usage.input_tokens == listed.usage.input_tokens > parts.usage.input_tokens
    assert parts.output_text == "white"


def test_a_call_its_output_and_the_answer(server: RunningServer) -> None:
    client = server.client()
    given: list[Any] = [{"role": "user", "content": QUESTION}]

    first = respond(client, given, tools=[FLAT_TOOL], tool_choice="required")
    (call,) = first.output
    given += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "fine"}]
    second = respond(client, given, tools=[FLAT_TOOL])

    assert call.id.startswith("fc_")
    assert (call.name, json.loads(call.arguments)) == ("lookup", ARGUMENTS)
    assert second.output_text in COLOURS


def test_an_answer_can_be_sent_back_as_input(server: RunningServer) -> None:
    client = server.client("white")
    first = respond(client)
    question = {"role": "user", "content": QUESTION}
    second = respond(client, [question, *[item.model_dump() for item in first.output], question])

    assert second.usage.input_tokens > 2 * first.usage.input_tokens


def test_a_call_without_arguments_and_a_malformed_one_can_be_sent_back(server: RunningServer) -> None:
    question = {"role": "user", "content": QUESTION}

    def tokens(call: dict[str, Any], output: Any = "fine") -> int:
        made = {"type": "function_call", "call_id": "c", "name": "lookup", **call}
        answer = {"type": "function_call_output", "call_id": "c", "output": output}
        return respond(server.client(), [question, made, answer], max_output_tokens=16).usage.input_tokens

    expected = tokens({"arguments": "{}"})
    for nothing in ({"arguments": ""}, {"arguments": "null"}, {"arguments": None}, {"arguments": {}}, {}):
        assert tokens(nothing) == expected, nothing
    assert tokens({"arguments": "<tool_call>\n{bad}\n</tool_call>", "name": ""})
    assert tokens({"arguments": "{bad"})
    assert tokens({}, []) == tokens({}, "")
    assert tokens({}, [{"type": "input_text", "text": "fine"}]) == expected


def test_a_refusal_is_what_the_assistant_said(server: RunningServer) -> None:
    question = {"role": "user", "content": QUESTION}
    said = [
        respond(server.client(), [question, {"role": "assistant", "content": content}, question]).usage.input_tokens
        for content in ("No.", [{"type": "refusal", "refusal": "No."}], [{"type": "output_text", "text": "No."}])
    ]
    assert len(set(said)) == 1


def test_a_text_stream_adds_up_to_the_whole_answer(server: RunningServer) -> None:
    client = server.client("long")
    with client.responses.stream(model="tiny", input=QUESTION, temperature=0) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()

    assert streamed.output_text == LONG_ANSWER == respond(client).output_text
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds.count("response.output_text.delta") > 1
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_stream_of_a_call(server: RunningServer) -> None:
    events = list(respond(server.client(), tools=[FLAT_TOOL], stream=True))

    assert [event.type for event in events[2:]] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert json.loads(events[3].delta) == json.loads(events[4].arguments) == ARGUMENTS
    assert events[6].response.output[0] == events[5].item


def test_an_answer_in_a_schema(server: RunningServer) -> None:
    assert respond(server.client("json"), text=SCHEMA_FORMAT).output_text == JSON_ANSWER

    with pytest.raises(InternalServerError) as raised:
        respond(server.client("white"), text=SCHEMA_FORMAT)
    *_, last = respond(server.client("white"), text=SCHEMA_FORMAT, stream=True)

    assert (raised.value.code, raised.value.param) == ("response_format_not_met", "text.format")
    assert (last.type, last.code) == ("error", "response_format_not_met")


def test_an_answer_that_is_cut_off_is_incomplete(server: RunningServer) -> None:
    whole = respond(server.client("long"), max_output_tokens=3)
    events = list(respond(server.client("long"), max_output_tokens=3, stream=True))

    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert events[-1].type == "response.incomplete"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"reasoning": {"budget": 5}}, "reasoning.budget"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"background": True}, "background"),
        ({"include": ["thoughts"]}, "include[0]"),
        ({"text": {"verbose": "low"}}, "text.verbose"),
        ({"given": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
        ({"given": [{"type": "reasoning", "role": "assistant", "summary": []}]}, "input[0].role"),
        ({"given": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input"),
        ({"given": [{"type": "function_call", "name": "lookup", "arguments": "{}"}]}, "input[0].call_id"),
        ({"given": [{"role": "user", "content": "x", "name": "Ann"}]}, "input[0].name"),
        ({"given": [{"role": "user", "content": "x", "arguments": "{}"}]}, "input[0].arguments"),
        ({"given": [{"type": "function_call", "call_id": "c", "name": "a", "arguments": [1]}]}, "input[0].arguments"),
        ({"given": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]}, "input[0].content[0].type"),
        ({"given": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"given": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"given": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"given": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"given": [{"type": "function_call_output", "call_id": "no", "output": "x"}]}, "input"),
    ],
)
def test_what_is_not_supported_is_an_error_that_names_the_field(
    server: RunningServer, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as raised:
        respond(server.client(), **changes)

    assert raised.value.param == param
