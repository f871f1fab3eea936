"""Evals that users make, through the stock SDK: made, changed, listed and deleted; rows graded as they are."""

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI

from tests.job.tiny_job import TOOL
from tests.server.eval_requests import (
    CONFIG,
    GIVEN,
    NEAR,
    RIGHT,
    inline,
    items_of,
    jsonl,
    make_eval,
    run_to_end,
    sampled,
    start_run,
)
from tests.server.live import MODEL, PYTHON_GRADER
from tests.server.sdk_answers import checked

MULTI = {"type": "multi", "name": "both", "graders": {"right": RIGHT, "near": NEAR}, "calculate_output": "right * near"}
CALLS = {"type": "trace", "name": "calls", "measure": "tool_calls", "best": 0, "worst": 4}
BROKEN = {**PYTHON_GRADER, "name": "broken", "source": "def grade(sample, item):\n    return 1 / 0"}


@pytest.fixture(scope="module")
def given_run(client: OpenAI) -> Any:
    """A run over `GIVEN` that is completed."""
    return run_to_end(client, make_eval(client), jsonl(), name="given", metadata={"a": "b"})


def refusal(error: pytest.ExceptionInfo[Any]) -> tuple[str | None, str | None]:
    return error.value.param, error.value.code


def test_an_eval_is_made_changed_found_in_the_list_and_deleted(client: OpenAI) -> None:
    made = client.evals.create(
        name="words", data_source_config=CONFIG, testing_criteria=[RIGHT, NEAR], metadata={"kind": "test"}
    )
    assert made.name == "words" and made.metadata == {"kind": "test"}
    assert [one.name for one in made.testing_criteria] == ["right", "near"]
    assert made.data_source_config.type == "custom"
    assert made.data_source_config.schema_["properties"]["item"] == CONFIG["item_schema"]
    changed = client.evals.update(made.id, name="other", metadata={"kind": "changed"})
    assert changed.id == made.id and (changed.name, changed.metadata) == ("other", {"kind": "changed"})
    assert client.evals.retrieve(made.id).to_dict() == changed.to_dict()
    assert client.evals.list(order="desc", limit=1).data[0].id == made.id
    assert client.evals.list(after=made.id, order="asc").data == []
    assert made.id in [one.id for one in client.evals.list(limit=2)]
    assert client.evals.delete(made.id).deleted is True
    for call in (client.evals.retrieve, client.evals.delete, client.evals.runs.list):
        with pytest.raises(NotFoundError):
            call(made.id)


def test_rows_are_graded_as_they_are_by_each_grader(client: OpenAI, given_run: Any) -> None:
    run = given_run
    assert (run.status, run.name, run.metadata, run.model) == ("completed", "given", {"a": "b"}, "")
    assert run.result_counts.to_dict() == {"errored": 0, "failed": 1, "passed": 2, "total": 3}
    names = [one.testing_criteria for one in run.per_testing_criteria_results]
    assert [name.rpartition("-")[0].split("-")[0] for name in names] == ["right", "near"]
    assert [(one.passed, one.failed) for one in run.per_testing_criteria_results] == [(2, 1), (2, 1)]
    items = items_of(client, run)
    assert [item.status for item in items] == ["pass", "pass", "fail"]
    assert [item.datasource_item["word"] for item in items] == ["apple", "stone", "river"]
    assert [[result.name for result in item.results] for item in items] == [names] * 3
    assert items[1].sample.output[0].content == "stones"
    assert run.data_source.source.content[0].item == {"word": "apple"}


def test_rows_come_from_a_file_also_from_one_for_training(client: OpenAI, files: dict[str, str]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in GIVEN)
    file = client.files.create(file=("rows.jsonl", text.encode()), purpose="evals").id
    eval_id = make_eval(client)
    source: Any = {"type": "jsonl", "source": {"type": "file_id", "id": file}}
    run = run_to_end(client, eval_id, source)
    assert (run.status, run.result_counts.total) == ("completed", 3)
    assert run.data_source.source.id == file
    client.files.delete(file)
    assert len(items_of(client, run)) == 3
    with pytest.raises(BadRequestError) as error:
        start_run(client, eval_id, source)
    assert refusal(error) == ("data_source.source.id", "invalid_file")
    # Its rows have no answers: a grader that reads none has nothing to wait for.
    constant = {**PYTHON_GRADER, "source": "def grade(sample, item):\n    return float(len(item['messages']))"}
    given: Any = {"type": "jsonl", "source": {"type": "file_id", "id": files["validation"]}}
    assert run_to_end(client, make_eval(client, constant), given).result_counts.passed == 4


def test_a_page_of_output_items_goes_on_behind_the_last_and_has_one_status_alone(
    client: OpenAI, given_run: Any
) -> None:
    run = given_run
    first, second, third = items_of(client, run)
    assert [one.id for one in items_of(client, run, limit=1)] == [first.id, second.id, third.id]
    assert [one.id for one in items_of(client, run, order="desc")] == [third.id, second.id, first.id]
    assert [one.id for one in items_of(client, run, status="fail")] == [third.id]
    assert client.evals.runs.output_items.retrieve(second.id, eval_id=run.eval_id, run_id=run.id).id == second.id
    with pytest.raises(NotFoundError):
        client.evals.runs.output_items.retrieve(first.id + "0", eval_id=run.eval_id, run_id=run.id)


def test_runs_are_listed_with_their_counts_and_without_their_rows(client: OpenAI, given_run: Any) -> None:
    eval_id = given_run.eval_id
    second = start_run(client, eval_id, jsonl())
    client.evals.runs.cancel(second, eval_id=eval_id)
    assert [one.id for one in client.evals.runs.list(eval_id, limit=1)] == [given_run.id, second]
    assert [one.id for one in client.evals.runs.list(eval_id, order="desc")] == [second, given_run.id]
    assert client.evals.runs.list(eval_id, status="failed").data == []
    listed: Any = client.evals.runs.list(eval_id, status="completed").data
    assert listed[0].result_counts.to_dict() == given_run.result_counts.to_dict()
    assert listed[0].data_source.source.content == []
    assert client.evals.runs.delete(second, eval_id=eval_id).deleted is True
    with pytest.raises(NotFoundError):
        client.evals.runs.output_items.list(second, eval_id=eval_id)
    with pytest.raises(NotFoundError):
        client.evals.runs.retrieve(given_run.id, eval_id=make_eval(client))


def test_answers_are_what_the_sdks_models_say(client: OpenAI, given_run: Any) -> None:
    eval_id, run_id = given_run.eval_id, given_run.id
    evals, runs = client.evals.with_raw_response, client.evals.runs.with_raw_response
    items = client.evals.runs.output_items.with_raw_response
    second = checked(evals.create(data_source_config=CONFIG, testing_criteria=[RIGHT, NEAR]))
    checked(evals.update(second.id, name="other"))
    checked(evals.retrieve(eval_id))
    checked(evals.list(limit=1, order="desc"))
    source = sampled(
        MODEL, "x", response_format={"type": "json_object"}, tools=[{"type": "function", "function": TOOL}]
    )
    run = checked(runs.create(second.id, data_source=source))
    checked(runs.cancel(run.id, eval_id=second.id))
    responses = {**sampled(MODEL, "x", kind="responses"), "sampling_params": {"text": {"format": {"type": "text"}}}}
    checked(runs.create(second.id, data_source=responses))
    checked(runs.retrieve(run_id, eval_id=eval_id))
    checked(runs.list(second.id))
    item = checked(items.list(run_id, eval_id=eval_id)).data[0]
    checked(items.retrieve(item.id, eval_id=eval_id, run_id=run_id))
    checked(runs.delete(run.id, eval_id=second.id))
    checked(evals.delete(second.id))


def test_a_run_has_a_page_with_its_graders_and_items(given_run: Any) -> None:
    page = httpx.get(given_run.report_url)
    assert page.status_code == 200 and "2 passed, 1 failed" in page.text
    assert "stones" in page.text and f"{2 / 3:.4g}" in page.text


def test_graders_inside_a_multi_one_have_results_and_one_that_fails_has_none(client: OpenAI) -> None:
    run = run_to_end(client, make_eval(client, MULTI, CALLS, BROKEN), jsonl())
    assert run.result_counts.to_dict() == {"errored": 3, "failed": 0, "passed": 0, "total": 3}
    counted = {one.testing_criteria.split("-")[0]: (one.passed, one.failed) for one in run.per_testing_criteria_results}
    assert counted == {"both": (1, 2), "right": (2, 1), "near": (2, 1), "calls": (3, 0), "broken": (0, 0)}
    item = items_of(client, run)[1]
    assert item.status == "error" and [one.score for one in item.results] == pytest.approx([10 / 11, 1, 10 / 11, 1])
    assert item.sample.error.code == "grader:exception" and "ZeroDivisionError" in item.sample.error.message
    # The SDK has no types for `multi` and `trace`: its lists are to be read by other tests.
    client.evals.delete(run.eval_id)


def test_rows_that_do_not_fit_the_schema_fail_the_run_with_their_lines(client: OpenAI) -> None:
    run = run_to_end(client, make_eval(client), jsonl([*GIVEN, {"item": {"wrod": "apple"}}]))
    assert (run.status, run.error.code) == ("failed", "invalid_rows")
    assert 'line 4: item: "word" is a required property' in run.error.message and items_of(client, run) == []


def test_what_is_not_offered_is_refused_with_the_reason(client: OpenAI, files: dict[str, str]) -> None:
    eval_id = make_eval(client)
    stored: Any = {"type": "stored_completions"}
    for config in ({"type": "logs"}, stored):
        with pytest.raises(BadRequestError, match="keeps no chats") as error:
            make_eval(client, data_source_config=config)
        assert refusal(error) == ("data_source_config.type", "unsupported")
    for source in (
        {**sampled(MODEL), "source": stored},
        {**sampled(MODEL, kind="responses"), "source": {"type": "responses"}},
    ):
        with pytest.raises(BadRequestError, match="keeps no chats") as error:
            start_run(client, eval_id, source)
        assert refusal(error) == ("data_source.source", "unsupported")
    for source, param in (
        ({**jsonl(), "type": "logs"}, "data_source.type"),
        ({**jsonl(), "model": MODEL}, "data_source.model"),
        ({"type": "jsonl", "source": inline([])}, "data_source.source.content"),
        ({**sampled(MODEL, "x"), "input_messages": {"type": "template"}}, "data_source.input_messages.template"),
        (sampled(MODEL, "x", temperature=3), "data_source.sampling_params.temperature"),
        (sampled(MODEL, "x", tools=[{"type": "web_search"}]), "data_source.sampling_params.tools"),
        (sampled(MODEL, "x", response_format={"type": "xml"}), "data_source.sampling_params"),
    ):
        with pytest.raises(BadRequestError) as error:
            start_run(client, eval_id, source)
        assert error.value.param == param, error.value
    with pytest.raises(NotFoundError, match="does not exist here"):
        start_run(client, eval_id, sampled("gpt-none", "x"))


@pytest.mark.parametrize(
    ("criterion", "code"),
    [
        ({**RIGHT, "operation": "near"}, "invalid_grader"),
        ({**RIGHT, "input": "{{ sample.none }}"}, "invalid_grader"),
        ({**PYTHON_GRADER, "source": "def"}, "invalid_grader"),
        ({"type": "python", "source_file": "/etc/passwd"}, "invalid_grader"),
        ({"type": "endpoint", "url": "http://169.254.169.254/grade"}, "host_not_allowed"),
    ],
)
def test_a_grader_that_no_run_could_use_is_refused_by_its_place(client: OpenAI, criterion: Any, code: str) -> None:
    with pytest.raises(BadRequestError) as error:
        make_eval(client, RIGHT, criterion)
    assert error.value.code == code
    if code == "invalid_grader":
        assert error.value.param == "testing_criteria.1"


def test_the_eval_of_a_job_cannot_be_changed(client: OpenAI, files: dict[str, str]) -> None:
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        method={"type": "reinforcement", "reinforcement": {"grader": RIGHT}},
    )
    client.fine_tuning.jobs.cancel(job.id)
    eval_id = f"eval_{job.id.removeprefix('ftjob-')}"
    for call in (
        lambda: client.evals.update(eval_id, name="x"),
        lambda: client.evals.delete(eval_id),
        lambda: start_run(client, eval_id, jsonl()),
    ):
        with pytest.raises(BadRequestError, match="belongs to a job"):
            call()


def test_a_file_is_not_deleted_under_a_run(client: OpenAI) -> None:
    slow = {**PYTHON_GRADER, "source": "import time\ndef grade(sample, item):\n    time.sleep(60)\n    return 1.0"}
    file = client.files.create(file=("rows.jsonl", json.dumps(GIVEN[0]).encode()), purpose="evals").id
    eval_id = make_eval(client, slow)
    run_id = start_run(client, eval_id, {"type": "jsonl", "source": {"type": "file_id", "id": file}})
    with pytest.raises(ConflictError, match=run_id):
        client.files.delete(file)
    assert client.evals.runs.cancel(run_id, eval_id=eval_id).status == "canceled"
    assert client.files.delete(file).deleted
