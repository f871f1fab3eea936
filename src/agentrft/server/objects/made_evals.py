"""Evals that users made, their runs and output items as the API's objects."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentrft import wire
from agentrft.graders.uses import added_counts
from agentrft.report.summary import mean
from agentrft.server.objects import evals
from agentrft.server.objects.evals import Criterion, Sampling, TokenCounts
from agentrft.server.records.evals import EvalRow, ItemRow, RunRow, item_id
from agentrft.store.rows import as_mapping

Record = Mapping[str, Any]


def groups_of(row: EvalRow) -> list[list[Criterion]]:
    """For each grader of an eval, its criterion, and after a `multi` one's those of the graders inside it."""
    graders = enumerate(row.shown.get("graders") or [])
    return [evals.criteria_of(row.eval_id, grader, number=number) for number, grader in graders]


def made_eval(row: EvalRow) -> dict[str, Any]:
    shown = evals.eval_object(
        row.eval_id,
        name=row.name,
        created_at=int(row.created_at),
        metadata=row.user_metadata,
        criteria=[criteria[0] for criteria in groups_of(row)],
        data_source_config=as_mapping(row.shown.get("data_source_config")),
    )
    ours = as_mapping(row.shown.get("agentrft"))
    return {**shown, "agentrft": ours} if ours else shown


def made_run(row: RunRow, counts: Mapping[str, int], *, report_url: str, content: str | None = None) -> dict[str, Any]:
    """An `eval.run`.

    Args:
        counts: of its output items, by their status.
        content: the rows that came with it, to be shown with it.
    """
    results = row.results or {}
    data_source = as_mapping(row.shown.get("data_source"))
    if content is not None:
        rows = [wire.parse_leniently(line) for line in content.splitlines()]
        data_source = {**data_source, "source": {"type": "file_content", "content": rows}}
    run = evals.run_object(
        row.run_id,
        eval_id=row.eval_id,
        name=row.name,
        model=row.model,
        status=row.status,
        created_at=int(row.created_at),
        metadata=row.user_metadata,
        data_source=data_source,
        report_url=report_url,
        counts={"errored": counts.get("error", 0), "failed": counts.get("fail", 0), "passed": counts.get("pass", 0)},
        criteria_results=results.get("criteria", ()),
        usage=results.get("usage", ()),
        error=row.error or evals.NO_ERROR,
    )
    found = {name: results.get(name) for name in ("summary", "mean_scores")}
    return {**run, "agentrft": {**as_mapping(row.shown.get("agentrft")), **found}}


def made_item(row: ItemRow, run: Mapping[str, Any], groups: Sequence[Sequence[Criterion]]) -> dict[str, Any]:
    """An `eval.run.output_item`.

    Args:
        run: its `eval.run`.
        groups: as `groups_of` its eval.
    """
    payload, record = row.payload, row.payload["record"]
    kind = record["failure_kind"] or ""
    sampled = as_mapping(run["data_source"].get("sampling_params"))
    most = sampled.get("max_completion_tokens") or sampled.get("max_completions_tokens")
    return evals.item_object(
        item_id(run["id"], row.line),
        run,
        number=row.line,
        created_at=int(record["started_at"]),
        status=row.status,
        row=payload["item"],
        results=item_results(payload, groups),
        sample=evals.sample_object(
            record["messages"],
            payload["n_prompt"],
            model=run["model"],
            finish_reason=_finish_reason(record, run),
            tokens=_tokens(record),
            sampling=Sampling(
                temperature=_or(sampled.get("temperature"), 1.0),
                top_p=_or(sampled.get("top_p"), 1.0),
                seed=_or(sampled.get("seed"), 0),
                max_completion_tokens=_or(most, 0),
            ),
            error={"code": kind, "message": record["failure_message"] or kind},
        ),
    )


def _finish_reason(record: Record, run: Mapping[str, Any]) -> str:
    """Of the last turn; an answer that came with its row has come to its end."""
    if run["data_source"]["type"] == "jsonl":
        return "stop"
    turns = record["turns"]
    if not turns:
        return "error"
    last = turns[-1]
    return "tool_calls" if last["tool_calls"] and last["finish_reason"] == "stop" else last["finish_reason"]


def item_results(payload: Record, groups: Sequence[Sequence[Criterion]]) -> list[dict[str, Any]]:
    """What the graders said of a row; nothing of one that failed: that is no score."""
    return [
        result
        for criteria, one in zip(groups, payload["results"], strict=False)
        if one["score"] is not None
        for result in evals.grade_results(
            criteria, one["score"], sub_scores=as_mapping(one["sub_scores"]), reason=one["reason"]
        )
    ]


def run_results(payloads: Iterable[Record], groups: Sequence[Sequence[Criterion]], model: str) -> dict[str, Any]:
    """What a run has found: `criteria`, results by criterion, their `mean_scores`, and `usage`, tokens by model."""
    passed, failed, scores = Counter[str](), Counter[str](), defaultdict[str, list[float]](list)
    used: dict[str, tuple[int, TokenCounts]] = {}
    for payload in payloads:
        for result in item_results(payload, groups):
            (passed if result["passed"] else failed)[result["name"]] += 1
            scores[result["name"]].append(result["score"])
        turns = len(payload["record"]["turns"])
        if turns:
            _add(used, model, turns, _tokens(payload["record"]))
        for judge, counts in _judges(payload).items():
            _add(used, judge, 1, _judge_tokens(counts))
    return {
        "criteria": [
            evals.criterion_count(one, passed=passed[one.label], failed=failed[one.label])
            for criteria in groups
            for one in criteria
        ],
        "mean_scores": {name: mean(some) for name, some in scores.items()},
        "usage": [evals.model_usage(name, calls, tokens) for name, (calls, tokens) in sorted(used.items())],
    }


def _judges(payload: Record) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for result in payload["results"]:
        for model, counts in result["usage"].items():
            found[model] = added_counts((found.get(model, {}), counts))
    return found


def _add(used: dict[str, tuple[int, TokenCounts]], model: str, calls: int, tokens: TokenCounts) -> None:
    before, known = used.get(model, (0, TokenCounts()))
    summed = TokenCounts(
        known.prompt + tokens.prompt, known.completion + tokens.completion, known.cached + tokens.cached
    )
    used[model] = (before + calls, summed)


def _judge_tokens(counts: Mapping[str, int]) -> TokenCounts:
    return TokenCounts(*(counts.get(f"{name}_tokens", 0) for name in ("prompt", "completion", "cached")))


def _tokens(record: Record) -> TokenCounts:
    return TokenCounts(
        prompt=sum(len(turn["prompt_ids"]) for turn in record["turns"]),
        completion=sum(len(turn["sampled_ids"]) for turn in record["turns"]),
    )


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
