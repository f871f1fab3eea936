"""Tools and graders: calls, times, errors by kind, and what judges took."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentrft.dashboard.charts import Chart
from agentrft.dashboard.runs import JobData
from agentrft.dashboard.server_side import as_yaml
from agentrft.dashboard.views import concurrency
from agentrft.dashboard.views.cost import tokens_of
from agentrft.graders.uses import added_counts
from agentrft.store.layout import TRAIN
from agentrft.traffic.breaker import outage_of

LATENCIES = Chart("tool_latency", "Mean latency of a call", "", unit="s", form=".2~g")
ERRORS = Chart(
    "tool_errors", "Calls that failed", "Errors of the endpoint and of arguments alike.", mark="bar", unit="calls"
)
GRADER_LATENCIES = Chart("grader_latency", "Mean latency of a grade", "", unit="s", form=".2~g")
FAULTS = Chart("faults", "What broke, repeated with success or not", "By kind.", mark="bar", unit="times")
LIMITED = Chart(
    "limited", "Requests that were one too many (429)", "Each was repeated later.", mark="bar", unit="times"
)
JUDGES = Chart("judges", "Tokens of judges", "By grader.", mark="bar", unit="tokens", form="~s")
CHARTS = (LATENCIES, ERRORS, GRADER_LATENCIES, FAULTS, LIMITED, JUDGES, *concurrency.CHARTS)
# Of a request that was refused because others were too many; before it stands whose it was.
RATE_LIMITED = ":rate_limited"


def tools(job: JobData) -> dict[str, Any]:
    """The page."""
    train = [row for row in job.metrics if row["phase"] == TRAIN]
    events = job.runs.store.events(job.job_id)
    told = [one for one in map(outage_of, (event.message for event in events)) if one is not None]
    charts = {
        "running": concurrency.running(job),
        "outages": concurrency.outages(job, events),
        "limited": [
            {"step": row["step"], "series": f"{kind.removesuffix(RATE_LIMITED)}s", "value": count}
            for row in train
            for kind, count in (row.get("faults") or {}).items()
            if kind.endswith(RATE_LIMITED)
        ],
        "judges": [
            {"step": row["step"], "series": name, "value": tokens}
            for row in train
            for name, panel in (row.get("graders") or {}).items()
            if (tokens := tokens_of(panel.get("usage") or {}))
        ],
        "tool_latency": _course(train, "tools", "latency_mean_s"),
        "tool_errors": _course(train, "tools", "errors"),
        "grader_latency": _course(train, "graders", "latency_mean_s"),
        "faults": [
            {"step": row["step"], "series": kind, "value": count}
            for row in train
            for kind, count in (row.get("faults") or {}).items()
        ],
    }
    return {
        "tools": _tools(train),
        "tool_specs": _declared(job.row.setting("tools")),
        "grader_spec": _declared(job.row.setting("grader")),
        "statuses": _added(row.get("tool_statuses") or {} for row in train),
        "faults": _added(row.get("faults") or {} for row in train),
        "first_attempt_failures": _added(row.get("first_attempt_failures") or {} for row in train),
        "graders": _graders(train),
        "judge_tokens": _added(row.get("judge_tokens") or {} for row in train),
        "outages": _added({endpoint: 1} for endpoint, is_down in told if is_down),
        "steps_missing": job.steps_missing,
        "requests": sum(row.get("tool_requests") or 0 for row in train),
        "charts": {name: rows for name, rows in charts.items() if rows},
    }


def _declared(value: Any) -> str:
    """A part of the stored job, which has no secrets, without what was left open."""
    return as_yaml(_given(value)) if value else ""


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one not in (None, {}, [])}
    return [_given(one) for one in value] if isinstance(value, list) else value


def _tools(train: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, float]] = {}
    for row in train:
        for name, panel in (row.get("tools") or {}).items():
            calls = panel.get("calls_per_rollout", 0.0) * (row.get("rollouts") or 0)
            one = found.setdefault(name, {"calls": 0.0, "errors": 0.0, "seconds": 0.0, "tokens": 0.0})
            one["calls"] += calls
            one["errors"] += panel.get("errors", 0.0)
            one["seconds"] += panel.get("latency_mean_s", 0.0) * calls
            one["tokens"] += panel.get("tokens_per_call", 0.0) * calls
    return [
        {
            "name": name,
            "calls": round(one["calls"]),
            "errors": round(one["errors"]),
            "error_share": one["errors"] / one["calls"] if one["calls"] else 0.0,
            "latency_mean_s": one["seconds"] / one["calls"] if one["calls"] else 0.0,
            "tokens_per_call": one["tokens"] / one["calls"] if one["calls"] else 0.0,
        }
        for name, one in found.items()
    ]


def _graders(train: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in train:
        for name, panel in (row.get("graders") or {}).items():
            one = found.setdefault(
                name, {"name": name, "grades": 0, "seconds": 0.0, "usage": {}, "faults": {}, "unparsed": 0}
            )
            grades = panel.get("grades", 0)
            one["grades"] += grades
            one["seconds"] += panel.get("latency_mean_s", 0.0) * grades
            one["unparsed"] += panel.get("unparsed", 0)
            one["usage"] = _added([one["usage"], panel.get("usage") or {}])
            one["faults"] = _added([one["faults"], panel.get("faults") or {}])
    for one in found.values():
        one["latency_mean_s"] = one.pop("seconds") / max(1, one["grades"])
    return list(found.values())


def _course(train: Sequence[Mapping[str, Any]], of: str, name: str) -> list[dict[str, Any]]:
    return [
        {"step": row["step"], "series": series, "value": panel.get(name, 0.0)}
        for row in train
        for series, panel in (row.get(of) or {}).items()
    ]


def _added(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums, the largest first."""
    return dict(sorted(added_counts(several).items(), key=lambda pair: -pair[1]))
