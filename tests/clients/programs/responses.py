"""A tool loop over Responses: calls and their outputs, `previous_response_id`, and the options of reasoning clients."""

import json
from typing import Any

from openai import BadRequestError, NotFoundError, OpenAI

from tests.clients.checks import NO_SWITCH, World, check, differs, ignored, refused, same

TOOL = {
    "type": "function",
    "name": "lookup",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
REASONING = {"reasoning": {"effort": "medium"}, "include": ["reasoning.encrypted_content"], "store": False}


def respond(world: World, given: Any, **more: Any) -> Any:
    asked = {"model": world.job.fine_tuned_model, "input": given, "tools": [TOOL], "max_output_tokens": 48, **more}
    return OpenAI().responses.create(**{"temperature": 0, **asked})


@check(
    same(
        "responses",
        "`input`, `instructions`, `tools`",
        "items of type `message`, `function_call`, `function_call_output`",
    ),
    ignored("responses", "`reasoning`: `effort`", "how much the model thinks", NO_SWITCH),
    differs(
        "responses",
        "`include: [reasoning.encrypted_content]`",
        "its thoughts, sealed",
        "the thoughts of a model whose template marks them, in an encoding that is no secret",
    ),
)
def calls_tools_until_there_is_an_answer(world: World) -> None:
    items: list[Any] = [{"role": "user", "content": "Colour of apple?"}]
    for _ in range(4):
        answer = respond(world, items, **REASONING)
        items += [item.to_dict() for item in answer.output]
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            break
        for call in calls:
            assert isinstance(json.loads(call.arguments), dict)
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": "fine"})
    assert answer.status == "completed" and answer.output_text
    kinds = [item.get("type", "message") for item in items]
    assert kinds == ["message", "function_call", "function_call_output", "message"], kinds


@check(
    differs(
        "responses",
        "`previous_response_id`, `store`, `retrieve`, `delete`",
        "kept for 30 days",
        "the same, at most 1 GB; the oldest go first",
    )
)
def goes_on_from_a_previous_response(world: World) -> None:
    first = respond(world, "Colour of apple?", store=True)
    (call,) = [item for item in first.output if item.type == "function_call"]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "fine"}
    second = respond(world, [output], previous_response_id=first.id)
    assert second.output_text and second.usage.input_tokens > first.usage.input_tokens
    assert second.previous_response_id == first.id
    client = OpenAI()
    assert client.responses.retrieve(first.id).output[0].call_id == call.call_id
    client.responses.delete(first.id)
    unkept = respond(world, "Colour of apple?", store=False)
    for gone in (first.id, unkept.id):
        try:
            respond(world, [output], previous_response_id=gone)
        except (BadRequestError, NotFoundError) as error:
            assert error.code == "previous_response_not_found", error
        else:
            raise AssertionError("went on from a response that is not kept")


@check()
def the_header_names_what_had_no_effect(world: World) -> None:
    raw = OpenAI().responses.with_raw_response.create(
        model=world.model, input="Colour of apple?", max_output_tokens=8, **REASONING
    )
    told = raw.headers.get("x-agentrft-warning", "")
    assert raw.parse().status in ("completed", "incomplete") and "reasoning" in told, told


@check(same("responses", "`stream`", "its events, in order"))
def reads_a_stream(world: World) -> None:
    kinds = [event.type for event in respond(world, "Colour of apple?", stream=True)]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert "response.function_call_arguments.done" in kinds


@check(refused("responses", "`background`, images, tools other than functions", "taken", "400 that names the field"))
def is_told_what_cannot_be_honoured(world: World) -> None:
    for changes, param in (
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ):
        try:
            respond(world, "Colour of apple?", **changes)
        except BadRequestError as error:
            assert error.param == param, error
        else:
            raise AssertionError(f"taken: {changes}")
