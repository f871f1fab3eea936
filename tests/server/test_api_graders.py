"""Trying a grader and a tool over the API."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.job.tiny_job import TOOL
from tests.traffic.chaos_server import ChaosServer

TOKENS = {"strict": 10, "kind": 3}


def judge(url: str, model: str) -> dict[str, Any]:
    return {
        "type": "score_model",
        "model": model,
        "base_url": url,
        "retries": 0,
        "outage_deadline_s": 0,
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
    }


@pytest.fixture
def judges(httpserver: HTTPServer) -> str:
    """Each model takes tokens of its own; `kind` answers "nonsense" with nonsense."""

    def answer(request: Request) -> Response:
        body = json.loads(request.data)
        message = {"role": "assistant", "content": json.dumps({"steps": [], "result": 1})}
        if body["model"] == "kind" and body["messages"][0]["content"] == "nonsense":
            message["content"] = "I would rather not say"
        usage = {
            "prompt_tokens": TOKENS[body["model"]],
            "completion_tokens": 1,
            "total_tokens": TOKENS[body["model"]] + 1,
        }
        completion = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        return Response(json.dumps(completion), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(answer)
    return httpserver.url_for("/v1")


def test_the_tokens_of_several_judges_are_told_by_model(client: OpenAI, judges: str) -> None:
    graders = {"a": judge(judges, "strict"), "b": judge(judges, "kind"), "c": judge(judges, "kind")}
    several: Any = {"type": "multi", "graders": graders, "calculate_output": "a + b + c"}
    run = client.fine_tuning.alpha.graders.run(grader=several, model_sample="x")
    assert run.reward == 3
    assert run.model_grader_token_usage_per_model == {
        "strict": {"completion_tokens": 1, "prompt_tokens": 10, "total_tokens": 11},
        "kind": {"completion_tokens": 2, "prompt_tokens": 6, "total_tokens": 8},
    }
    assert run.metadata.token_usage == 19


@pytest.mark.parametrize(
    ("does", "flag", "detail", "text"),
    [
        ("import os; os._exit(3)", "server_error", "server_error_type", "crashed"),
        ("import time; time.sleep(60)", "server_error", "server_error_type", "timeout"),
        ("return len(bytearray(3 * 1024**3))", "server_error", "server_error_type", "crashed"),
        ("return 1 / 0", "runtime_error", "runtime_error_details", "ZeroDivisionError"),
    ],
)
def test_what_a_python_grader_does_instead_of_grading_has_its_flag(
    client: OpenAI, does: str, flag: str, detail: str, text: str
) -> None:
    grader: Any = {"type": "python", "source": f"def grade(sample, item):\n    {does}", "timeout_s": 2}
    errors = client.fine_tuning.alpha.graders.run(grader=grader, model_sample="x").metadata.errors.model_dump()
    assert [name for name, value in errors.items() if value is True] == [f"python_grader_{flag}"]
    assert text in errors[f"python_grader_{detail}"]


@pytest.mark.parametrize(
    ("reference", "answer", "flags"),
    [
        ("sample.output_json.k", "no JSON", {"sample_parse_error"}),
        ("sample.output_json.k", '{"other": 1}', {"invalid_variable_error"}),
        ("sample.output_tools[0].function.name", "no JSON", {"invalid_variable_error"}),
        ("item.k", "no JSON", {"invalid_variable_error"}),
    ],
)
def test_an_answer_without_what_a_template_reads_has_the_lowest_score_and_its_flag(
    client: OpenAI, reference: str, answer: str, flags: set[str]
) -> None:
    grader: Any = {"type": "string_check", "name": "k", "reference": "x", "operation": "ne"}
    grader["input"] = f"{{{{ {reference} }}}}"
    run = client.fine_tuning.alpha.graders.run(grader=grader, model_sample=answer, item={})
    assert run.reward == 0
    assert {name for name, value in run.metadata.errors.model_dump().items() if value} == flags


@pytest.mark.parametrize(
    "source",
    [
        "import no_such_package\ndef grade(sample, item): return 1",
        "def grade(sample, item):\n    import no_such_package\n    return 1",
    ],
)
def test_validate_says_which_package_is_missing_and_how_to_get_it(client: OpenAI, source: str) -> None:
    grader: Any = {"type": "python", "source": source}
    with pytest.raises(openai.BadRequestError, match="No module named 'no_such_package'") as refused:
        client.fine_tuning.alpha.graders.validate(grader=grader)
    assert "pip install no_such_package" in refused.value.message
    assert refused.value.param == "grader"


def test_a_saved_grader_is_taken_with_its_nulls_threshold_and_invalid_grade(client: OpenAI) -> None:
    inner = {"type": "python", "name": "b", "source": "def grade(s, i): return 0", "image_tag": None}
    saved: Any = {
        "type": "multi",
        "name": "all",
        "graders": {"b": {**inner, "pass_threshold": 0.5}},
        "calculate_output": "1 / b",
        "pass_threshold": 0.7,
        "invalid_grade": 0.25,
    }
    assert client.fine_tuning.alpha.graders.validate(grader=saved).grader is not None
    run = client.fine_tuning.alpha.graders.run(grader=saved, model_sample="x")
    assert run.reward == 0.25
    assert [name for name, value in run.metadata.errors.model_dump().items() if value] == ["formula_parse_error"]


FIRST_CALL: Any = {
    "type": "string_check",
    "name": "first_call",
    "input": "{{ sample.output_tools[0].function.name }} {{ sample.output_tools[0].function.arguments }}",
    "reference": 'search {"query": "x"}',
    "operation": "eq",
}
SEARCH: dict[str, Any] = {"function": {"name": "search", "arguments": '{"query": "x"}'}}


def run_with_calls(client: OpenAI, grader: Any, calls: Any) -> Any:
    return client.fine_tuning.alpha.graders.run(
        grader=grader, model_sample="x", item={}, extra_body={"output_tools": calls}
    )


@pytest.mark.parametrize(
    ("call", "reward"),
    [
        (SEARCH, 1),
        ({"id": "call_1", "type": "function", **SEARCH}, 1),
        ({"id": None, "type": None, "function": {"name": "search", "arguments": {"query": "x"}}}, 1),
        ({"function": {"name": "search", "arguments": '{"query": '}}, 0),
        ({"function": {"name": "search", "arguments": None}}, 0),
        ({"function": {"name": "search"}}, 0),
    ],
)
def test_a_grader_sees_the_calls_that_are_given_with_an_answer(client: OpenAI, call: Any, reward: float) -> None:
    run = run_with_calls(client, FIRST_CALL, [call])
    assert run.reward == reward
    assert not any(value for value in run.metadata.errors.model_dump().values())


def test_the_calls_that_are_given_count_in_a_trace_grader_and_in_a_python_grader(client: OpenAI) -> None:
    trace = {"type": "trace", "name": "calls", "measure": "tool_calls", "best": 2, "worst": 0}
    assert run_with_calls(client, trace, [SEARCH]).reward == 0.5
    source = "def grade(sample, item):\n    return len(sample['output_tools']) + len(sample['messages']) / 10"
    assert run_with_calls(client, {"type": "python", "name": "p", "source": source}, [SEARCH, SEARCH]).reward == 2.2
    assert run_with_calls(client, FIRST_CALL, []).metadata.errors.invalid_variable_error
    assert run_with_calls(client, FIRST_CALL, None).metadata.errors.invalid_variable_error


@pytest.mark.parametrize(
    ("calls", "param"),
    [
        ({}, "output_tools"),
        ("search", "output_tools"),
        (["search"], "output_tools[0]"),
        ([{"name": "search", "arguments": "{}"}], "output_tools[0].function"),
        ([SEARCH, {"function": {"arguments": "{}"}}], "output_tools[1].function.name"),
        ([{"function": {"name": ""}}], "output_tools[0].function.name"),
        ([{"function": {"name": "search", "arguments": [1]}}], "output_tools[0].function.arguments"),
        ([{**SEARCH, "type": "custom"}], "output_tools[0].type"),
        ([{**SEARCH, "id": 5}], "output_tools[0].id"),
        ([{"function": {"name": "search", "arguments": "x" * 1024 * 1024}}], "output_tools"),
    ],
)
def test_calls_that_are_none_are_an_error_that_names_the_field(client: OpenAI, calls: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        run_with_calls(client, FIRST_CALL, calls)
    assert refused.value.param == param


def test_a_judge_that_fails_took_tokens_nevertheless(client: OpenAI, judges: str) -> None:
    run = client.fine_tuning.alpha.graders.run(grader=judge(judges, "kind"), model_sample="nonsense")  # type: ignore[arg-type]
    assert run.reward == 0 and run.metadata.errors.model_grader_parse_error
    assert run.model_grader_token_usage_per_model["kind"]["total_tokens"] == 12  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "param", "text"),
    [
        ({"timeout": 5}, "timeout", r"Unknown field 'timeout'.*timeout_s"),
        ({"function": "os:system"}, "function", "Unknown field"),
        ({"type": "mcp"}, "type", "only HTTP tools"),
        ({"record": "here"}, "record", "no meaning"),
        ({"item": [1]}, "item", "an object"),
        ({"call_id": 1}, "call_id", "a string"),
        ({"timeout_s": -1}, "tool", "timeout_s"),
    ],
)
def test_a_field_of_a_tool_that_cannot_be_honoured_is_named(
    client: OpenAI, tools: ChaosServer, given: dict[str, Any], param: str, text: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=text) as refused:
        run_tool(client, {**TOOL, "server_url": tools.url, "arguments": {"word": "apple"}, **given})
    assert refused.value.param == param


def test_a_call_may_be_written_as_the_tool_itself_gets_it(client: OpenAI, tools: ChaosServer) -> None:
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "arguments": '{"word": "apple"}',
        "trace_id": "trace_1",
        "item": {"word": "apple"},
    }
    answer = run_tool(client, {**TOOL, "url": tools.url, **call})
    assert (answer["call_id"], answer["trace_id"], answer["output"]) == ("call_1", "trace_1", "fine")


def run_tool(client: OpenAI, body: dict[str, Any]) -> dict[str, Any]:
    return client.post("/fine_tuning/alpha/tool/run", body=body, cast_to=dict[str, Any])
