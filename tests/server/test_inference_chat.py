import asyncio
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, AuthenticationError, BadRequestError, InternalServerError

from agentrft.engine.embedded import EmbeddedEngine
from tests.job.tiny_job import ARGUMENTS, COLOURS, prompt
from tests.server.inference_models import (
    ANSWERS,
    CONTEXT_TOKENS,
    JSON_ANSWER,
    LONG_ANSWER,
    SCHEMA,
    Colour,
    checkpoint,
    greedy_by_transformers,
    weights,
)
from tests.server.inference_server import REAL_VLLM, TOKEN, TOOLS, RunningServer, ask, headers, running, running_by

JSON_FORMAT = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA, "strict": True}}
OTHER_TOOL = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}


def calling(arguments: Any, name: str = "lookup") -> dict[str, Any]:
    made = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [made]}


def prompt_tokens(server: RunningServer, *messages: dict[str, Any]) -> int:
    return ask(server.client(), messages=list(messages), tools=TOOLS, max_tokens=1).usage.prompt_tokens


@pytest.fixture(scope="module", params=["embedded", "stand-in", REAL_VLLM])
def server(tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_by(request, tiny_model, "tiny_vllm") as server:
        yield server


@pytest.fixture(scope="module")
def embedded_server(tiny_model: Path) -> Iterator[RunningServer]:
    with running(tiny_model) as server:
        yield server


@pytest.mark.parametrize("name", ["base", "white", "green"])
def test_a_greedy_answer_is_the_one_of_plain_transformers(server: RunningServer, name: str) -> None:
    answer = ask(server.client(name), max_tokens=12).choices[0].message.content

    folder = None if name == "base" else checkpoint(server.model, name)
    assert answer == greedy_by_transformers(server.model, folder, prompt("apple"), 12)
    assert name == "base" or answer == ANSWERS[name][0]


def test_adapters_all_weights_and_the_base_answer_at_once(
    server: RunningServer, request: pytest.FixtureRequest
) -> None:
    if "[vllm]" in request.node.name:
        reason = "vLLM's CPU builds give the base model the last adapter of its batch: vllm-project/vllm#48421"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False))

    async def answers() -> list[str]:
        names = ["white", "green", "whole", "base"] * 2
        asked = [
            AsyncOpenAI(
                base_url=server.url, api_key="-", default_headers=headers(weights(server.model, name))
            ).chat.completions.create(model="tiny", messages=prompt("apple"), temperature=0, max_tokens=12)
            for name in names
        ]
        return [answer.choices[0].message.content or "" for answer in await asyncio.gather(*asked)]

    found = asyncio.run(answers())

    assert found[:4] == found[4:]
    assert found[:3] == ["white", "light green", "very dark blue"]
    assert found[3] not in found[:3]


def test_a_call_its_result_and_the_answer(server: RunningServer) -> None:
    client, messages = server.client(), prompt("apple")

    first = ask(client, messages=messages, tools=TOOLS)
    call = first.choices[0].message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "fine"}]}
    second = ask(client, messages=[*messages, first.choices[0].message.model_dump(), result], tools=TOOLS)

    assert first.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("lookup", ARGUMENTS)
    assert first.choices[0].message.content is None
    assert second.choices[0].message.content in COLOURS
    assert second.choices[0].finish_reason == "stop"


def test_a_call_without_arguments_in_the_history_is_still_a_call(server: RunningServer) -> None:
    question, result = prompt("apple")[0], {"role": "tool", "tool_call_id": "c", "content": "fine"}
    expected = prompt_tokens(server, question, calling("{}"), result)
    for nothing in ("", "null", "  ", None, {}):
        assert prompt_tokens(server, question, calling(nothing), result) == expected, nothing
    assert prompt_tokens(server, question, calling(ARGUMENTS), result) == prompt_tokens(
        server, question, calling(json.dumps(ARGUMENTS)), result
    )


@pytest.mark.parametrize("arguments", ["<tool_call>\n{bad}\n</tool_call>", '{"word": ', "[1]", '"x"'])
def test_a_malformed_call_of_the_models_own_can_be_sent_back(server: RunningServer, arguments: str) -> None:
    question, result = prompt("apple")[0], {"role": "tool", "tool_call_id": "c", "content": "not valid JSON"}
    without = prompt_tokens(server, question, {"role": "assistant", "content": ""})
    name = "" if arguments.startswith("<") else "lookup"
    assert prompt_tokens(server, question, calling(arguments, name), result) > without


def test_an_empty_id_of_a_call_is_an_id(server: RunningServer) -> None:
    question, made = prompt("apple")[0], calling("{}")
    made["tool_calls"][0]["id"] = ""
    result = {"role": "tool", "tool_call_id": "", "content": "fine"}
    assert prompt_tokens(server, question, made, result) == prompt_tokens(
        server, question, calling("{}"), {**result, "tool_call_id": "c"}
    )
    with pytest.raises(BadRequestError) as raised:
        prompt_tokens(server, question, calling("{}"), result)
    assert raised.value.param == "messages[2].tool_call_id"


def test_a_body_may_begin_with_a_byte_order_mark(server: RunningServer) -> None:
    body = json.dumps({"model": "m", "messages": prompt("apple"), "max_tokens": 1}, ensure_ascii=False)
    url = f"{server.url}/chat/completions"
    answers = [
        httpx.post(url, content=content, headers=headers(weights(server.model, "base")), timeout=60.0)
        for content in (body.encode(), body.encode("utf-8-sig"))
    ]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_names_text_parts_and_refusals_are_read(server: RunningServer) -> None:
    text = prompt("apple")[0]["content"]
    plain = prompt_tokens(server, {"role": "user", "content": text})
    parts = [{"type": "text", "text": text}]
    assert prompt_tokens(server, {"role": "user", "content": parts, "name": "Ann"}) == plain
    said = {"role": "assistant", "content": "I may not."}
    question = {"role": "user", "content": text}
    expected = prompt_tokens(server, question, said, question)
    for same in (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I may not."}], "name": "bot"},
        {"role": "assistant", "content": None, "refusal": "I may not."},
        {"role": "assistant", "content": [{"type": "text", "text": "I may not."}], "refusal": None},
    ):
        assert prompt_tokens(server, question, same, question) == expected
    call, empty = calling("{}"), {"role": "tool", "tool_call_id": "c", "content": ""}
    assert prompt_tokens(server, question, call, {**empty, "content": []}) == prompt_tokens(
        server, question, {**call, "content": []}, empty
    )


def test_usage_counts_the_prompt_and_all_that_was_sampled(server: RunningServer) -> None:
    answer = ask(server.client("white"), n=2)

    usage = answer.usage
    # "white" and the stop token, twice.
    assert usage.completion_tokens == 4
    assert usage.total_tokens == usage.prompt_tokens + 4
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_with_tool_choice_none_the_model_sees_no_tools(server: RunningServer) -> None:
    with_tools = ask(server.client("white"), tools=TOOLS, tool_choice="none")
    without = ask(server.client("white"))

    assert with_tools.choices[0].message.content == "white"
    assert with_tools.usage.prompt_tokens == without.usage.prompt_tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "lookup"}}])
def test_a_demanded_call_is_made(server: RunningServer, choice: Any) -> None:
    answer = ask(server.client(), tools=TOOLS, tool_choice=choice, temperature=1)

    assert answer.choices[0].message.tool_calls[0].function.name == "lookup"


def test_a_demanded_call_that_never_comes_is_an_error(server: RunningServer) -> None:
    choice = {"type": "function", "function": {"name": "other"}}

    with pytest.raises(InternalServerError) as raised:
        ask(server.client(), tools=[*TOOLS, OTHER_TOOL], tool_choice=choice, temperature=0.1)

    assert raised.value.code == "tool_choice_not_met"
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_strict_arguments_that_do_not_fit_are_an_error(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"word": {"type": "integer"}}}
    tool = {"type": "function", "function": {"name": "lookup", "strict": True, "parameters": schema}}

    with pytest.raises(InternalServerError) as raised:
        ask(server.client(), tools=[tool], tool_choice="required")

    assert raised.value.code in ("tool_arguments_not_met", "tool_choice_not_met")


@pytest.mark.parametrize("changes", [{"tools": TOOLS}, {"logprobs": True}, {"n": 3}, {"stop": "three"}])
@pytest.mark.parametrize("name", ["base", "long"])
def test_a_stream_adds_up_to_the_whole_answer(server: RunningServer, name: str, changes: dict[str, Any]) -> None:
    client = server.client(name)
    asked = {"model": "tiny", "messages": prompt("apple"), "temperature": 0.7, "seed": 6, "max_tokens": 60, **changes}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()

    assert streamed.usage == whole.usage
    for one, other in zip(streamed.choices, whole.choices, strict=True):
        assert one.finish_reason == other.finish_reason
        assert (one.message.content or "") == (other.message.content or "")
        assert _calls(one) == _calls(other)
        assert _tokens(one) == _tokens(other)


def test_text_is_streamed_while_it_is_sampled(server: RunningServer) -> None:
    chunks = list(ask(server.client("long"), stream=True))

    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(texts) == LONG_ANSWER
    assert len(texts) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_ends_with_done(server: RunningServer) -> None:
    body = {"model": "tiny", "messages": prompt("apple"), "stream": True}
    given = httpx.post(f"{server.url}/chat/completions", json=body, headers=headers(weights(server.model, "white")))

    lines = [line for line in given.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith('data: {"id": "chatcmpl-') for line in lines[:-1])


def test_logprobs_are_of_the_sampled_tokens_with_their_bytes(server: RunningServer) -> None:
    choice = ask(server.client("long"), logprobs=True, top_logprobs=0).choices[0]

    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content == LONG_ANSWER
    assert all(token.top_logprobs == [] and token.logprob <= 0 for token in tokens)
    assert math.exp(tokens[-1].logprob) > 0.5


def test_characters_of_several_tokens_have_all_their_bytes(server: RunningServer) -> None:
    choice = ask(server.client(), logprobs=True, temperature=2, seed=3, max_tokens=120).choices[0]

    text = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode(errors="replace")
    assert text == choice.message.content


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(server: RunningServer) -> None:
    answer = ask(server.client("long"), stop=["four five", "nine"], logprobs=True)

    choice = answer.choices[0]
    assert choice.message.content == "one two three "
    assert choice.finish_reason == "stop"
    assert answer.usage.completion_tokens == len(choice.logprobs.content) == 5


def test_an_answer_that_is_cut_off_says_so(server: RunningServer) -> None:
    answer = ask(server.client("long"), max_completion_tokens=3)

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_the_same_seed_gives_the_same_answer(server: RunningServer) -> None:
    first, again, other = (
        ask(server.client(), temperature=2, seed=seed, max_tokens=20).choices[0].message.content for seed in (1, 1, 2)
    )

    assert first == again != other


def test_an_answer_in_a_schema(server: RunningServer) -> None:
    client = server.client("json")

    answer = ask(client, response_format=JSON_FORMAT)
    parsed = client.chat.completions.parse(
        model="tiny", messages=prompt("apple"), temperature=0.5, seed=0, response_format=Colour
    )
    any_object = ask(client, response_format={"type": "json_object"})

    assert answer.choices[0].message.content == any_object.choices[0].message.content == JSON_ANSWER
    assert parsed.choices[0].message.parsed == Colour(colour="white")


def test_an_answer_that_is_never_in_the_schema_is_an_error(server: RunningServer) -> None:
    with pytest.raises(InternalServerError) as raised:
        ask(server.client("white"), response_format=JSON_FORMAT, temperature=0.5)

    assert raised.value.code == "response_format_not_met"
    assert raised.value.param == "response_format"


TOWER = {
    "$defs": {"0": {"type": "object"}} | {str(n): {"allOf": [{"$ref": f"#/$defs/{n - 1}"}] * 2} for n in range(1, 31)},
    "$ref": "#/$defs/30",
}


@pytest.mark.parametrize(
    "schema", [{"$ref": "#/$defs/missing"}, {"$ref": "#"}, TOWER, {"type": "object", "minimum": "1"}]
)
@pytest.mark.parametrize("where", ["response_format", "tools"])
def test_a_schema_that_cannot_be_checked_is_a_bad_request(
    server: RunningServer, where: str, schema: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "tools": [{"type": "function", "function": {"name": "x", "strict": True, "parameters": schema}}],
    }
    with pytest.raises(BadRequestError) as raised:
        ask(server.client(), **{where: asked[where]})

    assert raised.value.param is not None and raised.value.param.startswith(where)


def test_an_error_in_a_stream_reaches_the_client(server: RunningServer) -> None:
    with pytest.raises(APIError, match="asked format") as raised:
        list(ask(server.client("white"), response_format=JSON_FORMAT, stream=True))

    assert raised.value.code == "response_format_not_met"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"extra_body": {"min_p": 0.1}}, "min_p"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"moderation": {"model": "omni"}}, "moderation"),
        ({"max_tokens": 2, "max_completion_tokens": 2}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "no"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": "x", "refusal": "no"}]}, "messages[0].refusal"),
        ({"messages": [calling([1])]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "x"}}]}, "messages[0].function_call"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_is_not_supported_is_an_error_that_names_the_field(
    server: RunningServer, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as raised:
        ask(server.client(), **changes)

    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_a_prompt_longer_than_the_context_is_an_error(server: RunningServer) -> None:
    with pytest.raises(BadRequestError, match=str(CONTEXT_TOKENS)) as raised:
        ask(server.client(), messages=[{"role": "user", "content": "apple " * 400}])

    assert raised.value.code == "context_length_exceeded"


def test_where_no_vllm_server_answers_a_chat_does_not_wait(tiny_model: Path) -> None:
    with running(tiny_model, by_vllm=True) as server:
        client, stand_in = server.client(), server.stand_in
        assert stand_in is not None
        assert ask(client).choices
        # Far fewer than a turn's deadline would have time for.
        stand_in.fails_with = [0] * 20
        with pytest.raises(InternalServerError, match="no vLLM server answers") as refused:
            ask(client)
        assert refused.value.status_code == 503 and len(stand_in.fails_with) >= 15
        stand_in.fails_with = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert ask(client).choices
                break
            except InternalServerError:
                time.sleep(0.5)
        else:
            pytest.fail("it is not found to be back")


def test_without_the_token_nothing_is_answered(server: RunningServer) -> None:
    with pytest.raises(AuthenticationError):
        ask(server.client(token=TOKEN + "x"))

    assert httpx.get(server.url).status_code == 401


@pytest.mark.parametrize("given", [None, "{}", "no json", '{"name": "x", "base": "y", "colour": 1}'])
def test_a_request_must_say_which_weights(server: RunningServer, given: str | None) -> None:
    sent = {"X-AgentRFT-Token": TOKEN} | ({} if given is None else {"X-AgentRFT-Weights": given})
    answer = httpx.post(
        f"{server.url}/chat/completions", json={"model": "m", "messages": prompt("apple")}, headers=sent
    )

    assert answer.status_code == 400
    assert "X-AgentRFT-Weights" in answer.json()["error"]["message"]


def test_other_urls_are_errors_in_the_same_shape(server: RunningServer) -> None:
    with pytest.raises(APIStatusError) as raised:
        server.client().embeddings.create(model="tiny", input="x")

    assert raised.value.status_code == 404
    assert raised.value.code == "unknown_url"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_ends_the_work(embedded_server: RunningServer, stream: bool) -> None:
    server = embedded_server
    choices, tokens = 100, 200
    ask(server.client(), max_tokens=1)
    engine = server.engine()
    before = engine.counters["tokens_sampled"]
    client = AsyncOpenAI(base_url=server.url, api_key="-", default_headers=headers(weights(server.model)))
    # At this temperature the stop token is one of 49,000.
    asked: Any = {"temperature": 2, "n": choices, "max_tokens": tokens, "stream": stream}

    async def read() -> None:
        answer: Any = await client.chat.completions.create(model="tiny", messages=prompt("apple"), **asked)
        async for _ in answer:
            pass

    reading = asyncio.create_task(read())
    await _until(lambda: engine.counters["tokens_sampled"] > before + 100)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await client.close()
    await _until(lambda: not _open_sessions(engine))

    assert engine.counters["tokens_sampled"] - before < choices * tokens / 2
    assert ask(server.client("white")).choices[0].message.content == "white"


def _calls(choice: Any) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]


def _tokens(choice: Any) -> list[tuple[str, float]]:
    return [(token.token, round(token.logprob, 4)) for token in (choice.logprobs.content if choice.logprobs else [])]


def _open_sessions(engine: EmbeddedEngine) -> int:
    return len(engine._slots.open)


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
