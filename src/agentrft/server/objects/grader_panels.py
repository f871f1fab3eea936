"""What a metric event says of each grader: scores, usage, errors, latency; those inside a `multi` one by one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agentrft.graders.base import MISSING_SAMPLE_KEY
from agentrft.server.objects.grader_errors import KINDS, error_kind
from agentrft.store.rows import as_mapping

Step = Mapping[str, Any]


class GraderName(NamedTuple):
    """A grader as events name it; `model` is a judge's."""

    name: str
    type: str
    model: str | None = None


GraderNames = Sequence[GraderName]


def grader_names(grader: object) -> list[GraderName]:
    """A job's grader as it is stored; of a `multi` one, each of its graders."""
    whole = as_mapping(grader)
    graders = as_mapping(whole.get("graders")) if whole.get("type") == "multi" else {whole.get("name"): whole}
    return [
        GraderName(str(name), str(one.get("type")), one.get("model"))
        for name, one in graders.items()
        if isinstance(one, Mapping)
    ]


def grader_scores(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    return [
        {
            "name": grader.name,
            "type": grader.type,
            "train_reward_mean": _score_of(grader, graders, train),
            "valid_reward_mean": _score_of(grader, graders, valid),
        }
        for grader in graders
    ]


def grader_usage(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    """Tokens of judges, in all and per grade; a grader that asks no judge has no model, and zeros."""
    return [
        {
            "name": grader.name,
            "type": grader.type,
            "model": grader.model,
            **_tokens("train", _panel(grader, graders, train), train),
            **_tokens("valid", _panel(grader, graders, valid), valid),
        }
        for grader in graders
    ]


def tokens_by_model(graders: GraderNames, train: Step, valid: Step) -> dict[str, dict[str, int]]:
    """What each judge's model took; two graders may ask the same one."""
    found: dict[str, Counter[str]] = {}
    for grader in graders:
        if grader.model is None:
            continue
        sums = found.setdefault(grader.model, Counter())
        for prefix, step in (("train", train), ("eval", valid)):
            usage = _panel(grader, graders, step).get("usage", {})
            for kind in ("cached", "prompt", "completion"):
                sums[f"{prefix}_{kind}_tokens"] += usage.get(f"{kind}_tokens", 0)
    return {model: dict(sums) for model, sums in found.items()}


def grader_errors(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    """Each kind of error: how many, and how many per rollout. A formula without a value is its `multi` grader's."""
    known = {grader.name for grader in graders}
    multis = sorted({*train.get("graders", {}), *valid.get("graders", {})} - known)
    return [
        {
            "name": grader.name,
            "type": grader.type,
            **_errors("train", grader, graders, train),
            **_errors("valid", grader, graders, valid),
        }
        for grader in (*graders, *(GraderName(name, "multi") for name in multis))
    ]


def grader_timing(graders: GraderNames, train: Step, valid: Step) -> list[dict[str, Any]]:
    return [
        {
            "name": grader.name,
            "type": grader.type,
            "train_execution_latency_mean": _panel(grader, graders, train).get("latency_mean_s"),
            "valid_execution_latency_mean": _panel(grader, graders, valid).get("latency_mean_s"),
        }
        for grader in graders
    ]


def _tokens(prefix: str, panel: Mapping[str, Any], step: Step) -> dict[str, float]:
    grades = panel.get("grades") or step.get("rollouts") or 1
    found: dict[str, float] = {}
    for kind in ("prompt_tokens", "completion_tokens"):
        count = panel.get("usage", {}).get(kind, 0)
        found[f"{prefix}_{kind}_mean"] = count / grades
        found[f"{prefix}_{kind}_count"] = count
    return found


def _errors(prefix: str, grader: GraderName, graders: GraderNames, step: Step) -> dict[str, float]:
    panel = _panel(grader, graders, step)
    counts = Counter[str]()
    for fault, count in panel.get("faults", {}).items():
        # An answer that is no JSON has no key of it either.
        unparsed = panel.get("unparsed", 0) if fault == MISSING_SAMPLE_KEY else 0
        counts["sample_parse_error"] += unparsed
        counts[error_kind(fault, grader.type)] += count - unparsed
    rollouts = step.get("rollouts") or 1
    return {
        f"{prefix}_{kind}_{what}": value
        for kind in KINDS
        for what, value in (("mean", counts[kind] / rollouts), ("count", counts[kind]))
    }


def _panel(grader: GraderName, graders: GraderNames, step: Step) -> Mapping[str, Any]:
    """Steps of before panels were kept know only sums, which are a single grader's own."""
    panels = step.get("graders")
    if panels or len(graders) > 1 or grader not in graders:
        return (panels or {}).get(grader.name, {})
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


def _score_of(grader: GraderName, graders: GraderNames, step: Step) -> float | None:
    if not step:
        return None
    return step.get("sub_scores", {}).get(grader.name, step.get("reward_mean") if len(graders) == 1 else None)
