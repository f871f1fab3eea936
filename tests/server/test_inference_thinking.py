"""How a request, and the model by default, use the chat template: thoughts are on or off, apart, and counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from agentrft.server.ignored_fields import WARNING_HEADER
from agentrft.server.inference.codecs import MOST_CODECS, Codecs
from agentrft.server.inference.template_variables import TemplateWish, chosen_variables
from agentrft.server.inference.weights import Weights
from tests.job.thinking_model import THOUGHT
from tests.server.inference_server import REAL_VLLM, TOOLS, RunningServer, ask, headers, running_by

OFF = {"enable_thinking": False}
INPUT = {"model": "tiny", "input": "Colour of apple?", "temperature": 0, "tools": [TOOLS[0]["function"]]}
INPUT["tools"] = [{"type": "function", **TOOLS[0]["function"]}]


@pytest.fixture(scope="module", params=["embedded", REAL_VLLM])
def server(thinking_model: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_by(request, thinking_model, "thinking_vllm") as server:
        yield server


def client(server: RunningServer, **variables: Any) -> OpenAI:
    """For the model with variables that it was trained with."""
    wanted = Weights(name="tiny", base=str(server.model), dtype="float32", chat_template_kwargs=variables)
    return OpenAI(base_url=server.url, api_key="unused", max_retries=0, default_headers=headers(wanted))


def chat(server: RunningServer, variables: Any = None, trained: Any = None, **given: Any) -> Any:
    extra = {} if variables is None else {"extra_body": {"chat_template_kwargs": variables}}
    return ask(client(server, **(trained or {})), tools=TOOLS, max_tokens=64, **extra, **given)


def thought_of(answer: Any) -> str:
    return getattr(answer.choices[0].message, "reasoning_content", "").strip()


def test_a_request_switches_thoughts_off_and_on(server: RunningServer) -> None:
    by_default, off, on = chat(server), chat(server, OFF), chat(server, {"enable_thinking": True})
    assert [thought_of(one) for one in (by_default, off, on)] == [THOUGHT, "", THOUGHT]
    assert off.usage.prompt_tokens > by_default.usage.prompt_tokens == on.usage.prompt_tokens
    assert by_default.choices[0].message.tool_calls[0].function.name == "lookup"


def test_a_model_talks_as_it_was_trained_unless_the_request_says_otherwise(server: RunningServer) -> None:
    as_trained = chat(server, trained=OFF)
    assert thought_of(as_trained) == "" and as_trained.usage.prompt_tokens == chat(server, OFF).usage.prompt_tokens
    assert thought_of(chat(server, {"enable_thinking": True}, OFF)) == THOUGHT
    assert thought_of(chat(server, {"enable_thinking": None}, OFF)) == THOUGHT, "null is the template's own default"


def test_answers_of_both_kinds_at_once_do_not_mix(server: RunningServer) -> None:
    thoughts = [thought_of(chat(server, variables)) for variables in (OFF, None, OFF, {}, OFF)]
    assert thoughts == ["", THOUGHT, "", THOUGHT, ""]


def test_reasoning_tokens_are_counted_also_of_a_thought_that_was_cut_off(server: RunningServer) -> None:
    whole, off = chat(server), chat(server, OFF)
    details = whole.usage.completion_tokens_details
    assert 0 < details.reasoning_tokens < whole.usage.completion_tokens
    assert off.usage.completion_tokens_details.reasoning_tokens == 0
    cut = ask(client(server), tools=TOOLS, max_tokens=5)
    assert cut.choices[0].finish_reason == "length" and not cut.choices[0].message.content
    assert cut.usage.completion_tokens_details.reasoning_tokens == 5
    response = client(server).responses.create(**INPUT)
    assert response.usage.output_tokens_details.reasoning_tokens == details.reasoning_tokens
    chunks = list(ask(client(server), tools=TOOLS, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == details.reasoning_tokens


@pytest.mark.parametrize("effort", ["none", "minimal"])
def test_an_effort_of_none_switches_thoughts_off_where_the_template_can(server: RunningServer, effort: str) -> None:
    for stream in (False, True):
        raw = client(server).chat.completions.with_raw_response.create(
            model="tiny",
            messages=[{"role": "user", "content": "Colour of apple?"}],
            tools=TOOLS,
            temperature=0,
            stream=stream,
            reasoning_effort=effort,
        )
        assert WARNING_HEADER not in raw.headers
        if not stream:
            assert thought_of(raw.parse()) == ""
    response = client(server).responses.with_raw_response.create(**INPUT, reasoning={"effort": effort})
    assert WARNING_HEADER not in response.headers
    assert response.parse().reasoning.effort == effort
    assert [item.type for item in response.parse().output] == ["function_call"]


def test_an_effort_that_the_template_has_nothing_for_is_ignored_with_a_warning(server: RunningServer) -> None:
    raw = client(server).responses.with_raw_response.create(**INPUT, reasoning={"effort": "high"})
    assert raw.headers[WARNING_HEADER] == "ignored: reasoning.effort"
    assert raw.parse().reasoning.effort is None
    named = chat(server, {"enable_thinking": True}, reasoning_effort="none")
    assert thought_of(named) == THOUGHT, "what is named goes before what is derived"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"enable_thoughts": True},
            "no variable 'enable_thoughts', which `chat_template_kwargs` sets. Use one of: ena",
        ),
        ({"messages": "x"}, "has no variable 'messages'"),
        ({"enable_thinking": [1]}, "chat_template_kwargs.enable_thinking"),
        ({"enable thinking": True}, "chat_template_kwargs"),
        ({f"v{n}": 1 for n in range(17)}, "chat_template_kwargs"),
        ({"enable_thinking": "x" * 257}, "chat_template_kwargs.enable_thinking"),
        ([], "chat_template_kwargs"),
    ],
)
def test_variables_that_cannot_be_set_are_named(server: RunningServer, variables: Any, message: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        chat(server, variables)
    assert message in raised.value.message and raised.value.param.startswith("chat_template_kwargs")
    with pytest.raises(BadRequestError):
        client(server).responses.create(**INPUT, extra_body={"chat_template_kwargs": variables})


def test_no_more_codecs_are_kept_than_some(server: RunningServer) -> None:
    from agentrft.models import resolve_model
    from agentrft.models.load import load_tokenizer

    codecs = Codecs(load_tokenizer(resolve_model(str(server.model))), "tiny")
    made = [codecs.make({"enable_thinking": number}) for number in range(MOST_CODECS + 1)]
    assert codecs.known({"enable_thinking": 0}) is None
    assert codecs.known({"enable_thinking": MOST_CODECS}) is codecs.make({"enable_thinking": MOST_CODECS}) is made[-1]
    assert codecs.known({"enable_thinking": True}) is None, "1 is not true"


@pytest.mark.parametrize(
    ("effort", "known", "values"),
    [
        ("high", ["reasoning_effort"], {"reasoning_effort": "high"}),
        ("minimal", ["reasoning_effort"], {"reasoning_effort": "low"}),
        ("xhigh", ["reasoning_effort"], {"reasoning_effort": "high"}),
        ("none", ["enable_thinking", "reasoning_effort"], {"enable_thinking": False}),
        ("low", ["enable_thinking", "reasoning_effort"], {"reasoning_effort": "low"}),
        ("none", ["thinking"], {"thinking": False}),
        ("high", ["enable_thinking"], None),
        ("much", ["reasoning_effort"], None),
        ("", ["reasoning_effort"], None),
    ],
)
def test_what_stands_for_an_effort(effort: str, known: list[str], values: dict[str, Any] | None) -> None:
    chosen = chosen_variables({}, TemplateWish({}, effort), known)
    assert (chosen.values, chosen.honours_effort) == (values or {}, values is not None)


def test_what_goes_before_what() -> None:
    defaults = {"a": 1, "reasoning_effort": "low", "c": 3}
    chosen = chosen_variables(defaults, TemplateWish({"c": None, "d": 4}, "high"), ["reasoning_effort"])
    assert chosen.values == {"a": 1, "reasoning_effort": "high", "d": 4}
