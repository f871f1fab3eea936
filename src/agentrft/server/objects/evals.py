"""`eval`, `eval.run` and `eval.run.output_item` objects from plain values, wherever those were kept.

`job_evals.py` makes them of a job's validations.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.report.summary import SAME_REWARD

# Of the ids of graders, which are the same whenever they are asked for.
GRADERS = uuid.UUID("6f0ac1b3-5e0b-4d6a-9f0c-6c7de9b1f6a4")
# Without a score they pass from this one on, as jobs do.
DEFAULT_THRESHOLD = 1.0
# Graders whose type in the SDK has a threshold.
WITH_THRESHOLD = frozenset({"text_similarity", "python", "score_model"})
NO_ERROR = {"code": "", "message": ""}


@dataclass(frozen=True)
class Criterion:
    """A grader as evals know it.

    Attributes:
        label: its name and an id, under which its results are.
        grader: as it is shown.
        threshold: the score from which it passes.
        key: its name inside a `multi` grader; None where it is in none.
    """

    label: str
    grader: Mapping[str, Any]
    threshold: float
    key: str | None = None

    @property
    def kind(self) -> str:
        return str(self.grader.get("type"))

    def passes(self, score: float) -> bool:
        return score >= self.threshold - SAME_REWARD


@dataclass(frozen=True)
class TokenCounts:
    """Tokens that a model read and wrote."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


@dataclass(frozen=True)
class Sampling:
    """How an answer was sampled."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    max_completion_tokens: int = 0


def criteria_of(eval_id: str, grader: Mapping[str, Any], *, number: int = 0) -> list[Criterion]:
    """A grader, and after a `multi` one each of those inside it.

    Args:
        grader: its spec as it may be shown: complete, and without secrets.
        number: its place among the graders of the eval.
    """
    name = _name(grader)
    found = [_criterion(f"{eval_id}/{number}/{name}", name, grader, None)]
    inside = grader.get("graders")
    if isinstance(inside, Mapping):
        found += [
            _criterion(f"{eval_id}/{number}/{name}/{key}", key, one, key)
            for key, one in inside.items()
            if isinstance(one, Mapping)
        ]
    return found


def eval_object(
    eval_id: str,
    *,
    name: str,
    created_at: int,
    metadata: Mapping[str, str] | None,
    criteria: Sequence[Criterion],
    data_source_config: Mapping[str, Any],
) -> dict[str, Any]:
    """An `eval`."""
    return {
        "id": eval_id,
        "object": "eval",
        "name": name,
        "created_at": created_at,
        "metadata": dict(metadata or {}),
        "testing_criteria": [_shown(criterion) for criterion in criteria],
        "data_source_config": dict(data_source_config),
    }


def run_object(
    run_id: str,
    *,
    eval_id: str,
    name: str,
    model: str,
    status: str,
    created_at: int,
    metadata: Mapping[str, str] | None,
    data_source: Mapping[str, Any],
    report_url: str,
    counts: Mapping[str, int],
    criteria_results: Sequence[Mapping[str, Any]] = (),
    usage: Sequence[Mapping[str, Any]] = (),
    error: Mapping[str, str] = NO_ERROR,
) -> dict[str, Any]:
    """An `eval.run`.

    Args:
        counts: `errored`, `failed` and `passed` output items; what is left out is 0.
        criteria_results: of `criterion_counts`.
        usage: of `model_usage`.
    """
    shown = {name: counts.get(name, 0) for name in ("errored", "failed", "passed")}
    return {
        "id": run_id,
        "object": "eval.run",
        "eval_id": eval_id,
        "created_at": created_at,
        "name": name,
        "model": model,
        "status": status,
        "report_url": report_url,
        "metadata": dict(metadata or {}),
        "data_source": dict(data_source),
        "error": dict(error),
        "per_model_usage": [dict(one) for one in usage],
        "per_testing_criteria_results": [dict(one) for one in criteria_results],
        "result_counts": {**shown, "total": sum(shown.values())},
    }


def item_object(
    item_id: str,
    run: Mapping[str, Any],
    *,
    number: int,
    created_at: int,
    status: str,
    row: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    sample: Mapping[str, Any],
) -> dict[str, Any]:
    """An `eval.run.output_item`.

    Args:
        run: its `eval.run`.
        number: of the row, from 1.
        status: "pass", "fail" or "error".
    """
    return {
        "id": item_id,
        "object": "eval.run.output_item",
        "created_at": created_at,
        "run_id": run["id"],
        "eval_id": run["eval_id"],
        "status": status,
        "datasource_item_id": number,
        "datasource_item": dict(row),
        "results": [dict(result) for result in results],
        "sample": dict(sample),
    }


def grade_results(
    criteria: Sequence[Criterion],
    score: float,
    *,
    sub_scores: Mapping[str, float] | None = None,
    reason: str | None = None,
) -> list[dict[str, Any]]:
    """What one grader said of an answer, and after it what each grader inside it did, as far as they gave a score.

    Args:
        criteria: of `criteria_of` the grader.
    """
    scores = sub_scores or {}
    whole, *inside = criteria
    return [
        _result(whole, score, scores, reason),
        *(_result(one, scores[one.key], {}, None) for one in inside if one.key is not None and one.key in scores),
    ]


def criterion_counts(criteria: Sequence[Criterion], items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`per_testing_criteria_results` over output items, or anything else with `results`."""
    counts = Counter((result["name"], result["passed"]) for item in items for result in item["results"])
    return [
        criterion_count(criterion, passed=counts[criterion.label, True], failed=counts[criterion.label, False])
        for criterion in criteria
    ]


def criterion_count(criterion: Criterion, *, passed: int, failed: int) -> dict[str, Any]:
    return {"testing_criteria": criterion.label, "passed": passed, "failed": failed}


def model_usage(model: str, invocations: int, tokens: TokenCounts) -> dict[str, Any]:
    """One model's part of `per_model_usage`."""
    return {"model_name": model, "invocation_count": invocations, **_tokens(tokens)}


def sample_object(
    conversation: Sequence[Mapping[str, Any]],
    n_prompt: int,
    *,
    model: str,
    finish_reason: str,
    tokens: TokenCounts,
    sampling: Sampling,
    error: Mapping[str, str] = NO_ERROR,
) -> dict[str, Any]:
    """The sample of an output item: the agent's answer with all its calls as one message, and what came before it.

    Args:
        conversation: Chat Completions messages: the prompt, and all that was said after it.
        n_prompt: how many of these messages are the prompt.
    """
    said = conversation[n_prompt:]
    is_answered = bool(said) and said[-1]["role"] == "assistant"
    calls = [call for message in said for call in message.get("tool_calls") or []]
    answer = {"role": "assistant", "content": _text(said[-1]) if is_answered else "", "tool_calls": calls}
    return {
        "input": [_message(message) for message in (conversation[:-1] if is_answered else conversation)],
        "output": [answer],
        "finish_reason": finish_reason,
        "model": model,
        "error": dict(error),
        "max_completion_tokens": sampling.max_completion_tokens,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "usage": _tokens(tokens),
        "agentrft": {"messages": [dict(message) for message in conversation]},
    }


def _criterion(path: str, name: str, grader: Mapping[str, Any], key: str | None) -> Criterion:
    threshold = grader.get("pass_threshold")
    passes_from = float(threshold) if isinstance(threshold, int | float) else DEFAULT_THRESHOLD
    return Criterion(f"{name}-{uuid.uuid5(GRADERS, path)}", {**grader, "name": name}, passes_from, key)


def _name(grader: Mapping[str, Any]) -> str:
    return str(grader.get("name") or grader.get("type") or "grader")


def _shown(criterion: Criterion) -> dict[str, Any]:
    shown = {name: value for name, value in criterion.grader.items() if value is not None}
    threshold = {"pass_threshold": criterion.threshold} if criterion.kind in WITH_THRESHOLD else {}
    return {"id": criterion.label, **shown, **threshold}


def _result(criterion: Criterion, score: float, sub_scores: Mapping[str, float], reason: str | None) -> dict[str, Any]:
    return {
        "name": criterion.label,
        "type": f"{criterion.kind.replace('_', '-')}-grader",
        "score": score,
        "passed": criterion.passes(score),
        "sample": None,
        "sub_scores": dict(sub_scores),
        "reason": reason,
    }


def _tokens(tokens: TokenCounts) -> dict[str, int]:
    return {
        "cached_tokens": tokens.cached,
        "completion_tokens": tokens.completion,
        "prompt_tokens": tokens.prompt,
        "total_tokens": tokens.prompt + tokens.completion,
    }


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """With text as its content, which the SDK's type wants, and whatever else it has."""
    return {**message, "content": _text(message)}


def _text(message: Mapping[str, Any]) -> str:
    return str(message.get("content") or "")
