"""The eval of a job with a `multi` grader, as the stock SDK and a browser see it."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.job.tiny_job import VALIDATION_WORDS, prompt
from tests.server.live import MODEL, PYTHON_GRADER, Live, method, wait_for
from tests.traffic.chaos_server import ChaosServer

JUDGE = "judge-1"
PROMPT_TOKENS, COMPLETION_TOKENS = 10, 2


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    def answer(request: Request) -> Response:
        content = json.dumps({"steps": [], "result": 0.25})
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": 12}
        return Response(json.dumps({"choices": [choice], "usage": usage}), content_type="application/json")

    with HTTPServer(port=0) as server:
        server.expect_request("/v1/chat/completions").respond_with_handler(answer)
        yield server.url_for("/v1")


@pytest.fixture(scope="module")
def job(client: OpenAI, files: dict[str, str], tools: ChaosServer, judge_url: str) -> Any:
    judge = {
        "type": "score_model",
        "name": "style",
        "model": JUDGE,
        "base_url": judge_url,
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
        "pass_threshold": 0.2,
    }
    grader = {
        "type": "multi",
        "name": "both",
        "graders": {"length": PYTHON_GRADER, "style": judge},
        "calculate_output": "length",
    }
    made = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        seed=7,
        method=method(tools.url, grader=grader, hyperparameters={"max_steps": 3, "eval_interval": 2}),  # type: ignore[arg-type]
        extra_body={"dtype": "float32", "model_failed_reward": 0},
    )
    return wait_for(client, made.id, "succeeded")


def items_of(client: OpenAI, job: Any, run: Any, **options: Any) -> list[Any]:
    return list(client.evals.runs.output_items.list(run.id, eval_id=job.eval_id, limit=3, **options))


def test_results_criteria_and_counts_go_by_the_same_names(client: OpenAI, job: Any) -> None:
    criteria: list[Any] = client.evals.retrieve(job.eval_id).testing_criteria
    labels = [one.id for one in criteria]
    assert [label[:-37] for label in labels] == ["both", "length", "style"]
    assert criteria[2].type == "score_model" and criteria[2].pass_threshold == 0.2
    for run in client.evals.runs.list(job.eval_id):
        items = items_of(client, job, run)
        graded = [item for item in items if len(item.results) > 1]
        assert all([result.name for result in item.results] == labels for item in graded)
        passed, failed = Counter(), Counter()
        for result in (result for item in items for result in item.results):
            (passed if result.passed else failed)[result.name] += 1
        counts = {one.testing_criteria: (one.passed, one.failed) for one in run.per_testing_criteria_results}
        assert counts == {label: (passed[label], failed[label]) for label in labels}
        assert counts[labels[0]] == (run.result_counts.passed, run.result_counts.failed)


def test_the_tokens_of_a_run_are_those_of_its_items_and_of_its_judge(client: OpenAI, job: Any) -> None:
    for run in client.evals.runs.list(job.eval_id):
        items = items_of(client, job, run)
        agent, judge = run.per_model_usage
        assert (agent.run_model_name, judge.run_model_name) == (run.model, JUDGE)
        assert agent.completion_tokens == sum(item.sample.usage.completion_tokens for item in items) > 0
        assert agent.total_tokens == sum(item.sample.usage.total_tokens for item in items)
        assert agent.invocation_count == sum(
            message["role"] == "assistant" for item in items for message in item.sample.agentrft["messages"]
        )
        assert judge.invocation_count == sum(len(item.results) > 1 for item in items)
        assert judge.prompt_tokens == PROMPT_TOKENS * judge.invocation_count


def test_an_item_has_its_row_its_trace_and_one_message_as_its_output(client: OpenAI, job: Any) -> None:
    (run, *_) = client.evals.runs.list(job.eval_id)
    words = []
    for item in items_of(client, job, run):
        row, sample = item.datasource_item, item.sample
        words.append(row["word"])
        assert row["messages"] == prompt(row["word"])
        (said,) = sample.output
        whole = sample.agentrft["messages"]
        assert whole == [*row["messages"], *row["trace"]]
        assert said.role == "assistant" and isinstance(said.content, str)
        assert said.tool_calls == [call for one in whole for call in one.get("tool_calls", [])]
        assert [one.role for one in sample.input] == [one["role"] for one in whole][: len(sample.input)]
    assert words == sorted(words, key=VALIDATION_WORDS.index), "in the order of the file"


def test_lists_begin_with_the_oldest_and_end_with_it_where_the_order_is_descending(client: OpenAI, job: Any) -> None:
    runs = client.evals.runs
    names = ["Step 0", "Step 2", "Step 3"]
    assert [run.name for run in runs.list(job.eval_id, limit=1)] == names
    assert [run.name for run in runs.list(job.eval_id, limit=1, order="desc")] == names[::-1]
    run = runs.list(job.eval_id).data[0]
    ids = [item.id for item in items_of(client, job, run)]
    assert [item.id for item in items_of(client, job, run, order="asc")] == ids
    assert [item.id for item in items_of(client, job, run, order="desc")] == ids[::-1] and len(ids) > 3
    evals = [one.id for one in client.evals.list(limit=2, order="asc")]
    assert [one.id for one in client.evals.list(limit=2, order="desc")] == evals[::-1]


def test_the_report_of_a_run_is_a_page_of_this_server(server: Live, client: OpenAI, job: Any) -> None:
    run = client.evals.runs.list(job.eval_id).data[1]
    assert run.report_url.startswith(server.url.removesuffix("v1"))
    answer = httpx.get(run.report_url)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for item in items_of(client, job, run):
        assert f"id='{item.id}'" in answer.text
    assert "<td>style</td>" in answer.text and run.model in answer.text
    gone = httpx.get(f"{run.report_url}0")
    assert gone.status_code == 404 and gone.json()["error"]["code"] == "not_found"


def test_events_and_the_result_file_tell_of_the_judge_and_of_each_grader(client: OpenAI, job: Any) -> None:
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    (told,) = [event for event in events if event.type == "metrics" and event.data["step"] == 2]  # type: ignore[index]
    data: Any = told.data
    assert told.message == (
        f"Step 2/3 , train mean reward={data['train_mean_reward']:.2f}, full validation mean "
        f"reward={data['full_valid_mean_reward']:.2f}, full validation mean parse error="
        f"{data['full_valid_mean_parse_error']:.2f}"
    )
    assert [(one["name"], one["type"], one["model"]) for one in data["usage"]["graders"]] == [
        ("length", "python", None),
        ("style", "score_model", JUDGE),
    ]
    assert data["usage"]["graders"][1]["valid_prompt_tokens_mean"] == PROMPT_TOKENS
    tokens = data["model_graders_token_usage"][JUDGE]
    run = client.evals.runs.list(job.eval_id).data[1]
    assert tokens["eval_prompt_tokens"] == run.per_model_usage[1].prompt_tokens > 0
    rows = list(csv.DictReader(io.StringIO(client.files.content(job.result_files[0]).text)))
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert [float(row["train_mean_reward"]) for row in rows][1] == data["train_mean_reward"]
    assert float(rows[1]["scores/graders/score_model/style/valid_reward_mean"]) == 0.25
    assert all(float(row["train_error_count_lookup"]) >= 0 for row in rows if "train_error_count_lookup" in row)
