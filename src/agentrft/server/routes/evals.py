"""`/v1/evals`, read-only: each job is an eval, each validation a run, each rollout an output item.

Viewers of rollouts that were written for the hosted service find them here.
"""

from itertools import takewhile
from typing import Annotated, Any

from fastapi import APIRouter, Query

from agentrft.server.context import Context, check_limit
from agentrft.server.errors import not_found
from agentrft.server.objects import eval_id, model_name, page
from agentrft.server.routes.files import InContext
from agentrft.store import read_rollouts

router = APIRouter()

VALIDATION = "validation"


@router.get("/v1/evals/{eval_id}")
def retrieve_eval(eval_id: str, context: InContext) -> dict[str, Any]:
    job_id = _job_id(eval_id, context)
    job, _ = context.job(job_id)
    return {
        "id": eval_id, "object": "eval", "name": f"validation of {job_id}", "created_at": int(job.created_at),
        "metadata": {}, "testing_criteria": [],
        "data_source_config": {"type": "custom", "schema": {"type": "object"}},
    }  # fmt: skip


@router.get("/v1/evals/{eval_id}/runs")
def list_runs(
    eval_id: str, context: InContext, after: str | None = None, limit: Annotated[int, Query()] = 20,
    order: str = "asc",
) -> dict[str, Any]:  # fmt: skip
    runs = _runs(_job_id(eval_id, context), context)
    items = list(runs.values()) if order == "asc" else list(runs.values())[::-1]
    return page(items, after=after, limit=check_limit(limit, 100), with_ends=True)


@router.get("/v1/evals/{eval_id}/runs/{run_id}")
def retrieve_run(eval_id: str, run_id: str, context: InContext) -> dict[str, Any]:
    return _run(eval_id, run_id, context)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items")
def list_output_items(
    eval_id: str, run_id: str, context: InContext, after: str | None = None, limit: Annotated[int, Query()] = 20,
    order: str = "asc", status: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    items = _items(eval_id, run_id, context)
    chosen = [item for item in items if status in (None, item["status"])]
    return page(chosen if order == "asc" else chosen[::-1], after=after, limit=check_limit(limit, 100), with_ends=True)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}")
def retrieve_output_item(eval_id: str, run_id: str, output_item_id: str, context: InContext) -> dict[str, Any]:
    for item in _items(eval_id, run_id, context):
        if item["id"] == output_item_id:
            return item
    raise not_found(f"There is no output item '{output_item_id}'.", code="not_found")


def _job_id(an_eval_id: str, context: Context) -> str:
    job_id = f"ftjob-{an_eval_id.removeprefix('eval_')}"
    if context.records.served(job_id) is None:
        raise not_found(f"There is no eval '{an_eval_id}'.", code="not_found")
    return job_id


def _runs(job_id: str, context: Context) -> dict[str, dict[str, Any]]:
    job, served = context.job(job_id)
    found = {}
    for row in context.store.metrics(job_id):
        if row["phase"] == VALIDATION:
            run_id = f"evalrun_{job_id.removeprefix('ftjob-')}_{row['step']}"
            found[run_id] = _run_object(run_id, row, model_name(job, served, context.settings.organization), job_id)
    return found


def _run_object(run_id: str, row: dict[str, Any], model: str, job_id: str) -> dict[str, Any]:
    outcomes, total = row["outcomes"], row["rollouts"]
    errored = outcomes.get("infra_failed", 0)
    passed = round(row["pass_at_1"] * (total - errored))
    return {
        "id": run_id,
        "object": "eval.run",
        "eval_id": eval_id(job_id),
        "created_at": 0,
        "name": f"step {row['step']}",
        "model": f"{model}:ckpt-step-{row['step']}",
        "status": "completed",
        "report_url": "",
        "metadata": {"step": str(row["step"])},
        "data_source": {"type": "jsonl", "source": {"type": "file_content", "content": []}},
        "error": {"code": "", "message": ""},
        "per_model_usage": [],
        "per_testing_criteria_results": [],
        "result_counts": {
            "errored": errored, "failed": total - errored - passed, "passed": passed, "total": total,
        },
    }  # fmt: skip


def _run(an_eval_id: str, run_id: str, context: Context) -> dict[str, Any]:
    run = _runs(_job_id(an_eval_id, context), context).get(run_id)
    if run is None:
        raise not_found(f"There is no run '{run_id}'.", code="not_found")
    return run


def _items(an_eval_id: str, run_id: str, context: Context) -> list[dict[str, Any]]:
    run = _run(an_eval_id, run_id, context)
    job_id = _job_id(an_eval_id, context)
    step = int(run["metadata"]["step"])
    path = context.store.job_folder(job_id) / "rollouts" / f"{VALIDATION}-{step:05d}.parquet"
    threshold = next(
        row["pass_threshold"] for row in context.store.metrics(job_id)
        if row["phase"] == VALIDATION and row["step"] == step
    )  # fmt: skip
    is_here = context.store.artifacts.fetch(path)
    return [_item(row["record"], run, threshold) for row in (read_rollouts(path) if is_here else [])]


def _item(record: dict[str, Any], run: dict[str, Any], threshold: float) -> dict[str, Any]:
    reward, grade = record["reward"], record["grade"]
    passed = reward is not None and reward >= threshold
    prompt = list(takewhile(lambda message: message["role"] != "assistant", record["messages"]))
    failure = record["failure_message"] or record["failure_kind"] or ""
    sampled = sum(len(turn["sampled_ids"]) for turn in record["turns"])
    read = sum(len(turn["prompt_ids"]) for turn in record["turns"])
    return {
        "id": record["trace_id"],
        "object": "eval.run.output_item",
        "created_at": 0,
        "run_id": run["id"],
        "eval_id": run["eval_id"],
        "status": "pass" if passed else "error" if reward is None else "fail",
        "datasource_item_id": int(record["sample_id"].partition("-")[0]),
        "datasource_item": {"sample_id": record["sample_id"], "messages": prompt},
        "results": [
            {
                "name": "reward", "score": 0.0 if reward is None else reward, "passed": passed,
                "sub_scores": {} if grade is None else grade["sub_scores"],
                "reason": None if grade is None else grade["reason"],
            }
        ],
        "sample": {
            "input": [{"role": one["role"], "content": one.get("content") or ""} for one in prompt],
            "output": [
                {"role": one["role"], "content": one.get("content") or "", "tool_calls": one.get("tool_calls") or []}
                for one in record["messages"][len(prompt) :]
            ],
            "finish_reason": record["turns"][-1]["finish_reason"] if record["turns"] else "error",
            "model": run["model"],
            "error": {"code": record["failure_kind"] or "", "message": failure},
            "max_completion_tokens": 0, "seed": 0, "temperature": 1.0, "top_p": 1.0,
            "usage": {"cached_tokens": 0, "completion_tokens": sampled, "prompt_tokens": read,
                      "total_tokens": sampled + read},
        },
    }  # fmt: skip
