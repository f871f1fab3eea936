"""A tool loop over Chat Completions, with the options that clients of reasoning models send."""

import json
from typing import Any

from openai import BadRequestError, OpenAI

from tests.clients.checks import NO_SWITCH, World, check, differs, ignored, refused, same
from tests.clients.programs.notebook import LOOKUP

QUESTION = [{"role": "user", "content": "Colour of apple?"}]


def ask(world: World, messages: list = QUESTION, **more: Any) -> Any:
    given = {"model": world.job.fine_tuned_model, "messages": messages, "tools": [LOOKUP], "temperature": 0, **more}
    return OpenAI().chat.completions.create(**{"max_completion_tokens": 48, **given})


def warnings_of(world: World, **more: Any) -> str:
    """The header that names what was accepted without effect."""
    given = {"model": world.model, "messages": QUESTION, "max_completion_tokens": 8, **more}
    raw = OpenAI().chat.completions.with_raw_response.create(**given)
    assert raw.parse().choices[0].message.role == "assistant"
    return raw.headers.get("x-agentrft-warning", "")


@check(
    same(
        "chat", "`tools`, `tool_choice`, `parallel_tool_calls`", "function calls, and their results as `tool` messages"
    ),
    same(
        "chat",
        "`max_completion_tokens`, `max_tokens`, `temperature`, `top_p`, `seed`, `stop`, `n`, `logprobs`",
        "as said",
    ),
)
def calls_a_tool_and_answers(world: World) -> None:
    messages: list[Any] = list(QUESTION)
    for _ in range(4):
        choice = ask(world, messages).choices[0]
        messages.append(choice.message.model_dump(exclude_none=True))
        if choice.finish_reason != "tool_calls":
            break
        for call in choice.message.tool_calls:
            assert call.function.name == "lookup" and isinstance(json.loads(call.function.arguments), dict)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "fine"})
    assert choice.finish_reason == "stop" and choice.message.content
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    several = ask(world, n=2, seed=3, temperature=1, top_p=0.9, logprobs=True, stop=["never"])
    assert [one.index for one in several.choices] == [0, 1] and several.choices[0].logprobs.content


@check(same("chat", "`stream`, `stream_options`", "deltas, and the usage at the end"))
def reads_a_stream(world: World) -> None:
    chunks = list(ask(world, stream=True, stream_options={"include_usage": True}))
    text = "".join(
        call.function.arguments or ""
        for chunk in chunks
        for choice in chunk.choices
        for call in choice.delta.tool_calls or []
    )
    assert json.loads(text) and chunks[-1].usage.completion_tokens > 0


@check(
    ignored("chat", "`reasoning_effort`", "how much the model thinks", NO_SWITCH),
    ignored("chat", "`store`, `metadata`, `user`", "kept for the platform's pages", "no chat is stored"),
)
def sends_what_reasoning_clients_send(world: World) -> None:
    told = warnings_of(world, reasoning_effort="medium", store=True)
    assert "reasoning_effort" in told and "store" in told, told
    assert warnings_of(world) == ""
    told = warnings_of(world, metadata={"a": "b"}, user="ann", service_tier="auto")
    assert "metadata" in told and "user" in told and "service_tier" not in told, told


@check(
    differs(
        "chat", "`response_format`", "the model is held to it", "asked for, then checked; three tries, then an error"
    ),
    refused(
        "chat",
        "images, audio, `logit_bias`, penalties, tools other than functions",
        "taken",
        "400 with the reason: ignored, they would change the meaning. Every field is in "
        "[server.md](server.md#what-becomes-of-a-chats-fields)",
    ),
)
def is_told_what_cannot_be_honoured(world: World) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    for changes, param in (
        ({"logit_bias": {"5": 3}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"messages": [{"role": "user", "content": [part]}]}, "messages[0].content"),
    ):
        try:
            ask(world, **changes)
        except BadRequestError as error:
            assert error.param.startswith(param), error
        else:
            raise AssertionError(f"taken: {changes}")
