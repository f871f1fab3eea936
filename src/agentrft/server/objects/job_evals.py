"""A job as an eval, a validation of it as a run, a rollout as an output item."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from agentrft.data import Sample, load_samples
from agentrft.errors import UserError
from agentrft.server.objects import evals
from agentrft.server.objects.evals import Criterion, Sampling, TokenCounts
from agentrft.server.objects.jobs import eval_id
from agentrft.store import JobRow
from agentrft.store.rows import as_mapping

# Files of rows that are kept parsed; viewers page through the items of one run.
KEPT_FILES = 4
ROWS = {"type": "custom", "schema": {"type": "object"}}


def job_criteria(job: JobRow) -> list[Criterion]:
    """The job's grader, and those inside a `multi` one."""
    return evals.criteria_of(eval_id(job.job_id), as_mapping(job.setting("grader")))


def job_eval(job: JobRow, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    return evals.eval_object(
        eval_id(job.job_id),
        name=f"validation of {job.job_id}",
        created_at=int(job.created_at),
        metadata=metadata,
        criteria=job_criteria(job),
        data_source_config=ROWS,
    )


def job_run(
    run_id: str,
    job: JobRow,
    row: Mapping[str, Any],
    criteria: Sequence[Criterion],
    *,
    model: str,
    created_at: int,
    rows_file: str | None,
    report_url: str,
) -> dict[str, Any]:
    """A validation as an `eval.run`.

    Args:
        row: its metrics; those of older jobs lack what was passed inside a `multi` grader, and tokens.
        criteria: of the job.
        model: the name of the fine-tuned model, without a step.
        rows_file: the id of the validation file.
    """
    step = row["step"]
    errored = row["outcomes"].get("infra_failed", 0)
    passed = round(row["pass_at_1"] * (row["rollouts"] - errored))
    failed = row["rollouts"] - errored - passed
    step_model = f"{model}:ckpt-step-{step}"
    return evals.run_object(
        run_id,
        eval_id=eval_id(job.job_id),
        name=f"Step {step}",
        model=step_model,
        status="completed",
        created_at=created_at,
        metadata={"step": str(step)},
        data_source={"type": "jsonl", "source": {"type": "file_id", "id": rows_file or ""}},
        report_url=report_url,
        counts={"errored": errored, "failed": failed, "passed": passed},
        criteria_results=[
            evals.criterion_count(criteria[0], passed=passed, failed=failed),
            *(
                evals.criterion_count(one, **row["sub_passes"][one.key])
                for one in criteria[1:]
                if one.key in row.get("sub_passes", {})
            ),
        ],
        usage=_usage(row, criteria, step_model),
    )


def job_item(
    record: Mapping[str, Any], run: Mapping[str, Any], criteria: Sequence[Criterion], sample: Sample | None
) -> dict[str, Any]:
    """A rollout as an `eval.run.output_item`.

    Args:
        record: as `Rollout.as_dict()`.
        criteria: the first is the job's grader, with the threshold that the run had.
        sample: the row; None where its file is gone.
    """
    reward = record["reward"]
    messages = record["messages"]
    n_prompt = len(list(takewhile(lambda message: message["role"] != "assistant", messages)))
    if sample is not None:
        n_prompt = len(sample.messages)
    status = "error" if reward is None else "pass" if criteria[0].passes(reward) else "fail"
    failure = record["failure_message"] or record["failure_kind"] or ""
    return evals.item_object(
        record["trace_id"],
        run,
        number=int(record["sample_id"].partition("-")[0]),
        # Records of before it was kept have the time of their run.
        created_at=int(record.get("started_at") or run["created_at"]),
        status=status,
        row=_row(record["sample_id"], messages, n_prompt, sample),
        results=_results(record, criteria),
        sample=evals.sample_object(
            messages,
            n_prompt,
            model=run["model"],
            finish_reason=record["turns"][-1]["finish_reason"] if record["turns"] else "error",
            tokens=TokenCounts(
                prompt=sum(len(turn["prompt_ids"]) for turn in record["turns"]),
                completion=sum(len(turn["sampled_ids"]) for turn in record["turns"]),
            ),
            sampling=Sampling(),
            error={"code": record["failure_kind"] or "", "message": failure},
        ),
    )


def with_threshold(criteria: Sequence[Criterion], threshold: float) -> list[Criterion]:
    """The criteria, the first with the threshold that its run had."""
    return [replace(criteria[0], threshold=threshold), *criteria[1:]]


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


def _usage(row: Mapping[str, Any], criteria: Sequence[Criterion], model: str) -> list[dict[str, Any]]:
    """Of the agent, its turns; of each judge's model, its grades."""
    agent = row.get("agent_usage")
    if agent is None:
        return []
    used = {model: (agent["turns"], TokenCounts(agent["prompt_tokens"], agent["completion_tokens"]))}
    for one in criteria:
        panel = row["graders"].get(one.key or one.grader["name"], {})
        judge = one.grader.get("model")
        if judge is None or not panel:
            continue
        grades, tokens = used.get(judge, (0, TokenCounts()))
        usage = panel["usage"]
        added = TokenCounts(
            tokens.prompt + usage.get("prompt_tokens", 0),
            tokens.completion + usage.get("completion_tokens", 0),
            tokens.cached + usage.get("cached_tokens", 0),
        )
        used[judge] = (grades + panel["grades"], added)
    return [evals.model_usage(name, invocations, tokens) for name, (invocations, tokens) in used.items()]


def _results(record: Mapping[str, Any], criteria: Sequence[Criterion]) -> list[dict[str, Any]]:
    """None where infrastructure failed: that is no score. A failure of the agent's has its reward."""
    if record["reward"] is None:
        return []
    grade = as_mapping(record["grade"])
    reason = grade.get("reason") or record["failure_kind"]
    return evals.grade_results(
        criteria, record["reward"], sub_scores=as_mapping(grade.get("sub_scores")), reason=reason
    )


def _row(sample_id: str, messages: Sequence[Mapping[str, Any]], n_prompt: int, sample: Sample | None) -> dict[str, Any]:
    """The row as it is in the file; its id and what was said beside, where the row has no keys of those names."""
    beside = {"sample_id": sample_id, "trace": list(messages[n_prompt:])}
    if sample is None:
        return {**beside, "messages": list(messages[:n_prompt])}
    return {**beside, **sample.item}
