"""Runs of evals, done here: what becomes of answers that are cut, and of calls that nobody can make."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from agentrft.job.stop import Stop
from agentrft.server.evals.fields import OurOptions
from agentrft.server.evals.plan import RunPlan, SampledBy
from agentrft.server.evals.rows import read_rows
from agentrft.server.evals.running import run_plan
from agentrft.server.evals.sampling import job_spec
from agentrft.server.objects.made_evals import groups_of, made_item, made_run
from agentrft.server.records import Records
from agentrft.server.settings import Settings
from agentrft.spec import GraderSpec
from agentrft.store import JobStore
from tests.job.tiny_job import TOOL, one_thread
from tests.server.eval_requests import NEAR, rows_of
from tests.store.databases import database_of

ANY: dict[str, Any] = {"type": "object"}
CALLED = {
    "type": "string_check",
    "name": "called",
    "input": "{{ sample.output_tools[0].function.name }}{{ sample.finish_reason }}",
    "reference": "lookuptool_calls",
    "operation": "eq",
}
FUNCTION = {"type": "function", "function": TOOL}
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "Colour of {{ item.word }}?"}]}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with JobStore(tmp_path, database=database_of(tmp_path)) as store:
        yield Records(store)


def items_of_run(records: Records, model: Path, grader: Any, max_tokens: int = 48) -> list[dict[str, Any]]:
    """The output items of a run of the tiny model over one row, which sees a tool that has no server."""
    spec = TypeAdapter(GraderSpec).validate_python(grader)
    hyperparameters = {"max_tokens_per_turn": max_tokens, "max_context_tokens": 256}
    job = job_spec(OurOptions(), spec, Settings(model.parent), base=str(model), hyperparameters=hyperparameters)
    by = SampledBy(model="tiny", job=job, messages=TEMPLATE, tools=[FUNCTION], temperature=0)
    plan = RunPlan.model_validate_json(
        RunPlan(graders=[spec], item_schema=ANY, sampled_by=by).model_dump_json(by_alias=True)
    )
    records.add_eval("eval_1", "e", {"graders": [grader]}, "", {})
    row = records.add_run("eval_1", "r", "tiny", {"data_source": {"type": "completions"}}, "", {})
    assert row is not None and records.eval_leases.acquire(row.run_id, "one", 60)
    rows = read_rows([json.dumps(one).encode() for one in rows_of("apple")], ANY)
    with one_thread():
        asyncio.run(run_plan(plan, rows, records, row.run_id, "one", Stop()))
    made = records.made_eval("eval_1")
    assert made is not None
    items, _ = records.items_of(row.run_id, limit=10, oldest_first=True)
    return [made_item(one, made_run(row, {}, report_url=""), groups_of(made)) for one in items]


def test_calls_that_nobody_can_make_are_the_answer(records: Records, tiny_model: Path) -> None:
    (item,) = items_of_run(records, tiny_model, CALLED)
    assert (item["status"], item["sample"]["finish_reason"]) == ("pass", "tool_calls")
    assert item["sample"]["error"] == {"code": "", "message": ""}
    assert item["sample"]["output"][0]["tool_calls"][0]["function"]["name"] == "lookup"
    assert [one["role"] for one in item["sample"]["agentrft"]["messages"]] == ["user", "assistant"]
    assert item["sample"]["input"] == [{"role": "user", "content": "Colour of apple?"}]


def test_an_answer_that_is_cut_is_a_failure_of_the_models_with_the_lowest_score(
    records: Records, tiny_model: Path
) -> None:
    (item,) = items_of_run(records, tiny_model, NEAR, max_tokens=2)
    assert (item["status"], item["sample"]["finish_reason"]) == ("fail", "length")
    assert item["sample"]["error"]["code"] == "max_tokens"
    assert (item["results"][0]["score"], item["results"][0]["reason"]) == (0.0, "the agent failed: max_tokens")
