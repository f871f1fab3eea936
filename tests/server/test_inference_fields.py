"""What becomes of every field that the newest SDK can send, and that the documents say so."""

import typing
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openai import BadRequestError
from openai.types import chat, responses
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses import response_create_params, response_includable, response_input_item_param
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from openai.types.shared_params import FunctionDefinition, Reasoning

from agentrft.server.ignored_fields import WARNING_HEADER
from agentrft.server.inference import chat_request, fields, response_items, responses_request
from agentrft.server.inference.fields import parse
from agentrft.server.inference.response_items import Item, messages_of
from agentrft.server.inference.responses_answer import ResponsesAnswer
from agentrft.server.inference.responses_request import Includable, ResponsesRequest
from agentrft.server.inference.turn_reader import ParsedTurn
from agentrft.server.inference.turn_sampler import TextDelta, Turn, TurnSampler
from tests.job.tiny_job import ARGUMENTS, TOOL, prompt
from tests.server.field_table import table
from tests.server.inference_server import REAL_VLLM, TOOLS, RunningServer, ask, running_by

SDK: list[tuple[type, Any]] = [
    (chat_request.ChatRequest, CompletionCreateParamsStreaming),
    (chat_request.Message, chat.ChatCompletionUserMessageParam),
    (chat_request.Message, chat.ChatCompletionDeveloperMessageParam),
    (chat_request.Message, chat.ChatCompletionAssistantMessageParam),
    (chat_request.Message, chat.ChatCompletionToolMessageParam),
    (chat_request.Tool, chat.ChatCompletionFunctionToolParam),
    (chat_request.StreamOptions, chat.ChatCompletionStreamOptionsParam),
    (chat_request.AllowedFunctions, chat.ChatCompletionAllowedToolsParam),
    (chat_request.NamedChoice, chat.ChatCompletionNamedToolChoiceParam),
    (fields.Function, FunctionDefinition),
    (responses_request.ResponsesRequest, ResponseCreateParamsStreaming),
    (responses_request.ReasoningOptions, Reasoning),
    (responses_request.TextOptions, responses.ResponseTextConfigParam),
    (responses_request.TextFormat, responses.ResponseFormatTextJSONSchemaConfigParam),
    (responses_request.StreamOptions, response_create_params.StreamOptions),
    (responses_request.FlatTool, responses.FunctionToolParam),
    (responses_request.AllowedChoice, responses.ToolChoiceAllowedParam),
    (responses_request.FlatChoice, responses.ToolChoiceFunctionParam),
    (response_items.Item, responses.EasyInputMessageParam),
    (response_items.Item, responses.ResponseOutputMessageParam),
    (response_items.Item, responses.ResponseFunctionToolCallParam),
    (response_items.Item, response_input_item_param.FunctionCallOutput),
    (response_items.Item, responses.ResponseReasoningItemParam),
]
# Kinds of input that belong to tools and features which are not here: each is a 400 that says what is taken.
OTHER_ITEMS = {
    "file_search_call computer_call computer_call_output web_search_call tool_search_call tool_search_output",
    "additional_tools configuration_update compaction compaction_trigger image_generation_call code_interpreter_call",
    "local_shell_call local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output",
    "mcp_list_tools mcp_approval_request mcp_approval_response mcp_call custom_tool_call custom_tool_call_output",
    "program program_output",
}
THOUGHTS, ANSWER = "Apples are often green.", "green"


@pytest.fixture(scope="module", params=["embedded", REAL_VLLM])
def server(tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_by(request, tiny_model, "tiny_vllm") as server:
        yield server


@pytest.mark.parametrize(("ours", "theirs"), SDK, ids=lambda given: given.__name__)
def test_no_field_of_the_newest_sdk_is_undecided(ours: Any, theirs: Any) -> None:
    decided = {field.alias or name for name, field in ours.model_fields.items()}
    assert set(typing.get_type_hints(theirs)) - decided == set()


def test_no_kind_of_input_item_and_nothing_to_include_is_undecided() -> None:
    kinds = {
        kind
        for one in typing.get_args(response_input_item_param.ResponseInputItemParam)
        for hint in [typing.get_type_hints(one)["type"]]
        for inner in (typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,))
        for kind in typing.get_args(inner)
    }
    taken = {"message", "reasoning", "function_call", "function_call_output", "item_reference"}
    assert kinds == taken | set(" ".join(OTHER_ITEMS).split())
    assert set(typing.get_args(response_includable.ResponseIncludable)) == set(typing.get_args(Includable))


def test_the_documents_list_what_is_ignored_and_refused_as_the_code_has_it() -> None:
    text = Path("docs/server.md").read_text()
    assert table() in text, f"docs/server.md needs this table:\n{table()}"


def test_what_is_ignored_in_a_chat_is_named_in_a_header(server: RunningServer) -> None:
    given: dict[str, Any] = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "flex",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"},
        "reasoning_effort": "low",
        "verbosity": "low",
        "prediction": {"type": "content", "content": "x"},
    }
    client = server.client("white")
    for stream in (False, True):
        answer = client.chat.completions.with_raw_response.create(
            model="tiny", messages=cast(Any, prompt("apple")), temperature=0, stream=stream, **given
        )
        assert answer.headers[WARNING_HEADER] == f"ignored: {', '.join(sorted(given))}"
        if not stream:
            assert cast(Any, answer.parse()).choices[0].message.content == "white"


def test_what_asks_for_what_happens_anyway_is_no_warning(server: RunningServer) -> None:
    neutral: dict[str, Any] = {
        "store": False,
        "service_tier": "auto",
        "logit_bias": {},
        "frequency_penalty": 0,
        "modalities": ["text"],
        "verbosity": "medium",
        "parallel_tool_calls": True,
        "stop": None,
        "tools": None,
        "seed": None,
        "reasoning_effort": None,
    }
    raw = server.client("white").chat.completions.with_raw_response
    answer = raw.create(model="tiny", messages=cast(Any, prompt("apple")), temperature=0, **neutral)
    assert WARNING_HEADER not in answer.headers


def test_what_is_ignored_in_a_response_is_named_in_a_header(server: RunningServer) -> None:
    given: dict[str, Any] = {
        "reasoning": {"effort": "high", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "file_search_call.results"],
        "text": {"verbosity": "low"},
        "truncation": "auto",
        "metadata": {"a": "b"},
        "input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}, *prompt("apple")],
    }
    answer = server.client("white").responses.with_raw_response.create(model="tiny", temperature=0, **given)
    ignored = (
        "input[0].encrypted_content, reasoning.effort, text.verbosity, truncation, include=file_search_call.results"
    )
    assert answer.headers[WARNING_HEADER] == f"ignored: {ignored}"
    response = answer.parse()
    assert response.output_text == "white" and response.metadata == {"a": "b"}
    plain = server.client("white").responses.with_raw_response.create(model="tiny", input="x", reasoning={}, store=True)
    assert WARNING_HEADER not in plain.headers


def test_a_refused_field_says_why(server: RunningServer) -> None:
    with pytest.raises(
        BadRequestError, match=r"Unsupported parameter 'web_search_options': there is no web search"
    ) as it:
        ask(server.client(), web_search_options={"search_context_size": "low"})
    assert (it.value.code, it.value.param) == ("unsupported_parameter", "web_search_options")


def test_only_allowed_tools_may_be_called(server: RunningServer) -> None:
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
    flat = [{"type": "function", "name": "other", "parameters": other["function"]["parameters"]}]

    def choice(name: str) -> Any:
        named = {"type": "function", "function": {"name": name}}
        return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}

    client = server.client()
    both = ask(client, tools=[*TOOLS, other], tool_choice=choice("lookup"))
    assert both.choices[0].message.tool_calls[0].function.name == "lookup"
    assert both.usage.prompt_tokens == ask(client, tools=TOOLS).usage.prompt_tokens
    allowed: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "lookup"}]}
    answer = client.responses.create(
        model="tiny", input="Colour of apple?", tools=[{"type": "function", **TOOL}, *flat], tool_choice=allowed
    )  # type: ignore[call-overload]
    assert [item.name for item in answer.output] == ["lookup"]
    with pytest.raises(BadRequestError, match="no tool 'none'"):
        ask(client, tools=TOOLS, tool_choice=choice("none"))


def test_log_probabilities_of_a_response_are_those_of_a_chat(server: RunningServer) -> None:
    client = server.client("white")
    expected = ask(client, logprobs=True).choices[0].logprobs.content
    asked: dict[str, Any] = {"model": "tiny", "input": "Colour of apple?", "temperature": 0}
    asked["include"] = ["message.output_text.logprobs"]
    whole = client.responses.create(**asked).output[0].content[0].logprobs
    streamed = [
        one
        for event in client.responses.create(**asked, stream=True)
        if event.type == "response.output_text.delta"
        for one in event.logprobs
    ]
    tokens = [one.token for one in expected]
    assert [one.token for one in whole] == [one.token for one in streamed] == tokens and len(tokens) > 0
    assert [one.logprob for one in whole] == pytest.approx([one.logprob for one in expected], abs=1e-4)


class Thinker(TurnSampler):
    """A model that thinks, says something and calls. Which tokens are thoughts is the chat template's business."""

    def __init__(self) -> None:
        self.prompt_ids = [1, 2, 3]

    async def sample(self, index: int, *, stream: bool) -> AsyncGenerator[TextDelta | Turn]:
        call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
        if stream:
            yield TextDelta("", [], THOUGHTS)
            yield TextDelta(ANSWER, [])
        yield Turn(ParsedTurn(ANSWER, THOUGHTS, [call]), [], 9, "tool_calls")


def thinking(**given: Any) -> ResponsesAnswer:
    request = ResponsesRequest.model_validate({"model": "m", "input": "x", **given})
    return ResponsesAnswer(request, Thinker(), cast(Any, SimpleNamespace()))


async def test_thoughts_are_an_item_before_the_answer_whole_and_streamed() -> None:
    given = {"reasoning": {"summary": "detailed"}, "include": ["reasoning.encrypted_content"]}
    whole = responses.Response.model_validate(await thinking(**given).whole(), strict=True)
    events: list[Any] = [event async for event in thinking(**given).events()]
    thought = cast(Any, whole.output[0])

    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
    assert thought.content[0].text == thought.summary[0].text == THOUGHTS
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in events if event["type"] == "response.output_item.done"] == [0, 1, 2]
    assert done == events[-1]["response"]["output"]
    places = {event["output_index"] for event in events if event["type"].startswith("response.output_text")}
    assert places == {1}
    assert "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta") == THOUGHTS
    without = (await thinking().whole())["output"][0]
    assert without["summary"] == [] and without["encrypted_content"] is None


@pytest.mark.parametrize("kept", ["all", "encrypted_content alone"])
async def test_thoughts_that_are_sent_back_are_the_models_again(kept: str) -> None:
    output = (await thinking(include=["reasoning.encrypted_content"]).whole())["output"]
    if kept != "all":
        output[0] = {name: output[0][name] for name in ("id", "type", "summary", "encrypted_content")}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "fine"}
    body = ResponsesRequest.model_validate({"model": "m", "input": [*output, result]})
    assert isinstance(body.input, list) and body.ignored == []
    assert messages_of(body.input) == [
        {
            "role": "assistant",
            "content": ANSWER,
            "reasoning_content": THOUGHTS,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "fine"},
    ]


def test_thoughts_before_a_call_without_text_go_with_the_call() -> None:
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "c", "name": "lookup", "arguments": str(ARGUMENTS)},
        {"type": "reasoning", "id": "rs_2", "summary": []},
        {"type": "function_call", "call_id": "d", "name": "lookup", "arguments": "{}"},
    ]
    (message,) = messages_of([Item.model_validate(one) for one in items])
    assert message["reasoning_content"] == "Hm." and len(message["tool_calls"]) == 2


def test_what_clients_of_reasoning_models_send_is_parsed() -> None:
    body = b'{"model": "m", "input": "x", "store": false, "reasoning": {"effort": null, "summary": null}, "text": null}'
    asked = parse(ResponsesRequest, body)
    assert not asked.store and asked.ignored == [] and not asked.wants_summary
