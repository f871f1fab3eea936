"""Evals, runs and output items out of plain values, and of a job's rollouts."""

import json
import uuid
from pathlib import Path
from typing import Any

from agentrft.graders import Grade
from agentrft.rollout import Rollout
from agentrft.server.objects.evals import (
    Sampling,
    TokenCounts,
    criteria_of,
    criterion_counts,
    grade_results,
    sample_object,
)
from agentrft.server.objects.job_evals import job_criteria, job_eval, job_item, job_run, samples_of
from agentrft.store import JobRow
from tests.job.tiny_job import prompt

RUN: dict[str, Any] = {"id": "evalrun_1", "eval_id": "eval_1", "model": "ft:m", "created_at": 1000}
MULTI = {
    "type": "multi",
    "name": "both",
    "graders": {"a": {"type": "string_check", "name": "a"}, "b": {"type": "python", "pass_threshold": 0.5}},
    "pass_threshold": 0.6,
}
CRITERIA = criteria_of("eval_1", {"type": "string_check", "name": "right"})
USAGE = {"turns": 5, "prompt_tokens": 9, "completion_tokens": 3, "reasoning_tokens": 0}
SHOTS = [*prompt("apple"), {"role": "assistant", "content": "red"}, *prompt("stone")]


def item(sample_id: str, folder: Path, **changes: Any) -> dict[str, Any]:
    messages = [*SHOTS, {"role": "assistant", "content": "grey"}]
    record = (
        Rollout(
            "trace_1", 1, sample_id, 0, 0, "graded", [], messages, grade=Grade(1.0), reward=1.0, started_at=900.5
        ).as_dict()
        | changes
    )
    return job_item(record, RUN, CRITERIA, samples_of(folder / "rows").get(sample_id))


def call(name: str) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}}


def test_a_grader_is_named_by_an_id_that_stays_and_a_multi_is_followed_by_those_inside_it() -> None:
    again, other = criteria_of("eval_1", MULTI), criteria_of("eval_2", MULTI)
    assert [one.label[:-36] for one in again] == ["both-", "a-", "b-"]
    assert all(uuid.UUID(one.label[-36:]).version == 5 for one in again)
    assert again == criteria_of("eval_1", MULTI) and not {one.label for one in again} & {one.label for one in other}
    results = grade_results(again, 0.6, sub_scores={"a": 1.0, "b": 0.2, "b.part": 0.1}, reason="why")
    assert [(one["name"], one["score"], one["passed"]) for one in results] == [
        (again[0].label, 0.6, True),
        (again[1].label, 1.0, True),
        (again[2].label, 0.2, False),
    ]
    assert results[0]["type"] == "multi-grader" and results[0]["reason"] == "why"
    counts = criterion_counts(again, [{"results": results}, {"results": results[:1]}, {"results": []}])
    assert [(one["passed"], one["failed"]) for one in counts] == [(2, 0), (1, 0), (0, 1)]


def test_the_sample_is_the_answer_with_all_calls_and_before_it_the_conversation() -> None:
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "call_a", "content": "1"},
        {"role": "tool", "tool_call_id": "call_b", "content": "2"},
        {"role": "assistant", "content": "3"},
    ]
    told: dict[str, Any] = {"model": "m", "finish_reason": "stop", "tokens": TokenCounts(7, 5), "sampling": Sampling()}
    whole = sample_object([*prompt("apple"), *turns], len(prompt("apple")), **told)
    assert whole["output"] == [{"role": "assistant", "content": "3", "tool_calls": [call("a"), call("b")]}]
    assert [one["role"] for one in whole["input"]] == [
        *(one["role"] for one in prompt("apple")),
        "assistant",
        "tool",
        "tool",
    ]
    assert whole["input"][-3] == {**turns[0], "content": ""}
    assert whole["agentrft"]["messages"] == [*prompt("apple"), *turns] and whole["usage"]["total_tokens"] == 12
    unfinished = sample_object([*prompt("apple"), *turns[:3]], len(prompt("apple")), **told)
    assert unfinished["output"] == [{"role": "assistant", "content": "", "tool_calls": [call("a"), call("b")]}]
    assert len(unfinished["input"]) == len(prompt("apple")) + 3


def test_a_validation_of_before_tokens_and_passes_were_counted_is_a_run_all_the_same() -> None:
    spec = {"job": {"grader": MULTI, "validation_file": "rows"}}
    job = JobRow("ftjob-1", "succeeded", None, 1, 1, "m", 0, spec, None, 10.0, 20.0, None, 1, None)
    row = {"step": 1, "rollouts": 4, "outcomes": {"graded": 3, "infra_failed": 1}, "pass_at_1": 1 / 3, "graders": {}}
    criteria = job_criteria(job)
    told: dict[str, Any] = {"model": "ft:m", "created_at": 15, "rows_file": "file-1", "report_url": "http://h/r"}
    run = job_run("evalrun_1", job, row, criteria, **told)
    (whole,) = run["per_testing_criteria_results"]
    assert whole == {"testing_criteria": criteria[0].label, "passed": 1, "failed": 2} and run["per_model_usage"] == []
    assert run["result_counts"] == {"errored": 1, "failed": 2, "passed": 1, "total": 4} and run["name"] == "Step 1"
    now = {**row, "sub_passes": {"a": {"passed": 2, "failed": 1}}, "agent_usage": USAGE}
    run = job_run("evalrun_1", job, now, criteria, **told)
    assert [one["passed"] for one in run["per_testing_criteria_results"]] == [1, 2]
    assert [one["total_tokens"] for one in run["per_model_usage"]] == [12]


def test_a_job_whose_stored_grader_is_damaged_still_is_an_eval() -> None:
    job = JobRow("ftjob-1", "failed", None, 0, None, "m", 0, {"job": {"grader": "x"}}, None, 1.0, 2.0, None, None, None)
    assert [one["name"] for one in job_eval(job, None)["testing_criteria"]] == ["grader"]


def test_what_broke_has_no_result_and_what_the_agent_failed_has_its_reward(tmp_path: Path) -> None:
    broken = item("00001-abcdef01", tmp_path, outcome="infra_failed", reward=None, grade=None, failure_kind="tool:down")
    assert broken["results"] == [] and broken["status"] == "error" and broken["sample"]["error"]["code"] == "tool:down"
    failed = item("00001-abcdef01", tmp_path, outcome="model_failed", reward=-1.0, grade=None, failure_kind="max_turns")
    (result,) = failed["results"]
    assert (result["score"], result["passed"], result["reason"]) == (-1.0, False, "max_turns")


def test_the_row_is_shown_whole_with_its_own_turns_as_the_prompt(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "lookup"}}]
    row = {"messages": SHOTS, "tools": tools, "word": "stone", "meta": {"n": [1]}}
    (tmp_path / "rows").write_text(json.dumps(row))
    (sample_id,) = samples_of(tmp_path / "rows")
    found = item(sample_id, tmp_path)
    said = [{"role": "assistant", "content": "grey"}]
    assert found["datasource_item"] == {"sample_id": sample_id, "trace": said, **row}
    assert [one["content"] for one in found["sample"]["output"]] == ["grey"]
    assert (found["created_at"], found["status"], found["datasource_item_id"]) == (900, "pass", 1)


def test_without_its_file_a_row_is_its_prompt_and_an_older_record_has_the_time_of_its_run(
    tmp_path: Path,
) -> None:
    assert samples_of(None) == samples_of(tmp_path / "rows") == {}
    found = item("00001-abcdef01", tmp_path, started_at=0.0)
    row = found["datasource_item"]
    assert (row["sample_id"], row["messages"]) == ("00001-abcdef01", prompt("apple"))
    assert found["created_at"] == 1000
