"""A job as an eval, a validation of it as a run, a rollout as an output item."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from agentrft.data import Sample, load_samples
from agentrft.errors import UserError
from agentrft.server.objects.jobs import eval_id
from agentrft.store import JobRow

# Files of rows that are kept parsed; viewers page through the items of one run.
KEPT_FILES = 4


def eval_object(job: JobRow, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        "id": eval_id(job.job_id),
        "object": "eval",
        "name": f"validation of {job.job_id}",
        "created_at": int(job.created_at),
        "metadata": dict(metadata or {}),
        "testing_criteria": [],
        "data_source_config": {"type": "custom", "schema": {"type": "object"}},
    }


def run_object(run_id: str, row: Mapping[str, Any], model: str, job_id: str, created_at: int) -> dict[str, Any]:
    """An `eval.run`.

    Args:
        row: the metrics of the validation.
    """
    outcomes, total = row["outcomes"], row["rollouts"]
    errored = outcomes.get("infra_failed", 0)
    passed = round(row["pass_at_1"] * (total - errored))
    return {
        "id": run_id,
        "object": "eval.run",
        "eval_id": eval_id(job_id),
        "created_at": created_at,
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
            "errored": errored,
            "failed": total - errored - passed,
            "passed": passed,
            "total": total,
        },
    }


def item_object(
    record: Mapping[str, Any], run: Mapping[str, Any], threshold: float, sample: Sample | None
) -> dict[str, Any]:
    """An `eval.run.output_item`.

    Args:
        record: as `Rollout.as_dict()`.
        sample: the row; None where its file is gone.
    """
    reward, grade = record["reward"], record["grade"]
    passed = reward is not None and reward >= threshold
    prompt = list(takewhile(lambda message: message["role"] != "assistant", record["messages"]))
    if sample is not None:
        prompt = sample.messages
    failure = record["failure_message"] or record["failure_kind"] or ""
    sampled = sum(len(turn["sampled_ids"]) for turn in record["turns"])
    read = sum(len(turn["prompt_ids"]) for turn in record["turns"])
    return {
        "id": record["trace_id"],
        "object": "eval.run.output_item",
        # Records of before it was kept have the time of their run.
        "created_at": int(record.get("started_at") or run["created_at"]),
        "run_id": run["id"],
        "eval_id": run["eval_id"],
        "status": "pass" if passed else "error" if reward is None else "fail",
        "datasource_item_id": int(record["sample_id"].partition("-")[0]),
        "datasource_item": _row(record["sample_id"], prompt, sample),
        "results": [
            {
                "name": "reward",
                "score": 0.0 if reward is None else reward,
                "passed": passed,
                "sub_scores": {} if grade is None else grade["sub_scores"],
                "reason": None if grade is None else grade["reason"],
            }
        ],
        "sample": {
            "input": [_message(one) for one in prompt],
            "output": [
                {**_message(one), "tool_calls": one.get("tool_calls") or []}
                for one in record["messages"][len(prompt) :]
            ],
            "finish_reason": record["turns"][-1]["finish_reason"] if record["turns"] else "error",
            "model": run["model"],
            "error": {"code": record["failure_kind"] or "", "message": failure},
            "max_completion_tokens": 0,
            "seed": 0,
            "temperature": 1.0,
            "top_p": 1.0,
            "usage": {
                "cached_tokens": 0,
                "completion_tokens": sampled,
                "prompt_tokens": read,
                "total_tokens": sampled + read,
            },
        },
    }


def samples_of(path: Path | None) -> Mapping[str, Sample]:
    """The rows of a file by their ids; none where it is gone."""
    if path is None or not path.is_file():
        return {}
    return _samples(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=KEPT_FILES)
def _samples(path: Path, changed_ns: int) -> Mapping[str, Sample]:
    try:
        return {sample.sample_id: sample for sample in load_samples(path)}
    except UserError:
        return {}


def _row(sample_id: str, prompt: list[dict[str, Any]], sample: Sample | None) -> dict[str, Any]:
    """The row as it is in the file; its id beside, where the row has no key of that name."""
    if sample is None:
        return {"sample_id": sample_id, "messages": prompt}
    tools = {"tools": sample.tools} if sample.tools else {}
    return {"sample_id": sample_id, **sample.item, **tools, "messages": sample.messages}


def _message(message: Mapping[str, Any]) -> dict[str, str]:
    return {"role": message["role"], "content": message.get("content") or ""}
