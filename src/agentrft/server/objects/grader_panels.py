"""What a metric event says of each grader: scores, usage, errors, latency; those inside a `multi` one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]
GraderNames = Sequence[tuple[str, str]]


def grader_scores(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": kind,
            "train_reward_mean": _score_of(name, graders, train),
            "valid_reward_mean": _score_of(name, graders, valid),
        }
        for name, kind in graders
    ]


def grader_usage(graders: GraderNames, either: Step) -> list[dict[str, Any]]:
    """Tokens of judges; a grader that asks no judge has its name alone."""
    return [{"name": name, **_panel(name, graders, either).get("usage", {})} for name, _ in graders]


def grader_errors(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    """Counts by kind. A `multi` stands among its graders where its formula itself had no value."""
    names = [name for name, _ in graders]
    names += sorted({*train.get("graders", {}), *valid.get("graders", {})} - set(names))
    return [
        {
            "name": name,
            **{
                f"{prefix}_{kind}_error_count": count
                for prefix, step in (("train", train), ("valid", valid))
                for kind, count in _panel(name, graders, step).get("faults", {}).items()
            },
        }
        for name in names
    ]


def grader_timing(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "train_execution_latency_mean": _panel(name, graders, train).get("latency_mean_s"),
            "valid_execution_latency_mean": _panel(name, graders, valid).get("latency_mean_s"),
        }
        for name, _ in graders
    ]


def _panel(name: str, graders: GraderNames, step: Step) -> Mapping[str, Any]:
    """Steps of before panels were kept know only sums, which are a single grader's own."""
    panels = step.get("graders")
    if panels or len(graders) > 1:
        return (panels or {}).get(name, {})
    faults = {
        kind.removeprefix("grader:"): count
        for kind, count in step.get("faults", {}).items()
        if kind.startswith("grader:")
    }
    return {
        "latency_mean_s": step.get("grader_latency_mean_s"),
        "usage": step.get("judge_tokens", {}),
        "faults": faults,
    }


def _score_of(name: str, graders: GraderNames, step: Step) -> float | None:
    if not step:
        return None
    return step.get("sub_scores", {}).get(name, step.get("reward_mean") if len(graders) == 1 else None)
