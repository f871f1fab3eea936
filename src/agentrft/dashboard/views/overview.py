"""One job: how it goes in words, its numbers at a step, and their course."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentrft.dashboard.charts import Chart
from agentrft.dashboard.guide import GUIDES, tiles
from agentrft.dashboard.runs import JobData
from agentrft.dashboard.views.alarms import alarm_text
from agentrft.dashboard.views.cost import Prices
from agentrft.dashboard.views.first_rows import first_samples
from agentrft.dashboard.views.jobs import job_line
from agentrft.dashboard.views.latency import OVER, Thresholds, latency
from agentrft.report.averages import level
from agentrft.report.diagnosis import diagnose
from agentrft.store import Event
from agentrft.store.layout import TEST, TRAIN, VALIDATION

EVENTS_SHOWN = 30
SHARES = (
    "zero_variance_share",
    "truncation_share",
    "parse_error_share",
    "infra_failure_share",
    "missing_sample_key_share",
)
CHARTS = (
    Chart(
        "rewards",
        "Reward",
        "Mean of each step with a 95 % interval; validation and test are of samples that are not trained on.",
        band=("low", "high"),
        height=260,
    ),
    Chart("losses", "Loss", "Of the examples in each step, for jobs that learn from examples."),
    Chart("graders", "Graders and holdouts", "Each grader inside the reward, and those that never train.", form=".2~f"),
    Chart("calls", "Calls by tool", "Of a rollout.", mark="area", unit="calls"),
    Chart(
        "tokens", "Tokens of a rollout", "Thoughts and the rest of what the model wrote.", mark="area", unit="tokens"
    ),
    Chart("latency", "Latency of a rollout", "Half, and one in twenty, take longer.", unit="s"),
    Chart("shares", "What is lost", "Shares of groups or rollouts that teach nothing, by reason.", form=".0%"),
    Chart("entropy", "Entropy by turn", GUIDES["entropy"].hint, unit="nats"),
    Chart(
        "movement",
        "How far the policy moved",
        "KL per token: from the start, and by each update.",
        unit="nats",
        form=".2~g",
    ),
    Chart("gradient", "Gradient norm", GUIDES["grad_norm"].hint, series=""),
    Chart("ratios", "Ratios", "Tokens that the clip or the truncation touched.", form=".1%"),
    Chart("time", "Where a step's time goes", "The longest part is the bottleneck.", mark="bar", unit="s"),
    Chart("learner_tokens", "Tokens of the update", "What is shared is computed once.", unit="tokens", form="~s"),
)


def overview(
    job: JobData, step: int | None, over: Thresholds = Thresholds(), prices: Prices = Prices()
) -> dict[str, Any]:
    """The page of a job.

    Args:
        step: whose numbers are shown; the last one without it.
        over: what counts as slow.
    """
    metrics, row = job.metrics, job.row
    events = job.runs.store.events(job.job_id)
    train = [row for row in metrics if row["phase"] == TRAIN]
    shown = next((row for row in train if row["step"] == step), train[-1] if train else {})
    validated = [row for row in metrics if row["phase"] == VALIDATION]
    slow = latency(job, shown.get("step"), over)
    charts = {chart.name: rows for chart in CHARTS if (rows := list(_ROWS[chart.name](metrics, train)))}
    if slow["by_step"]:
        charts[OVER.name] = slow["by_step"]
    return {
        "job": job_line(row, metrics, prices),
        "latency": slow,
        "prices": vars(prices),
        "steps_missing": job.steps_missing,
        "said": [one.as_dict() for one in diagnose(metrics)],
        "alarms": [
            {**_event(one), "message": alarm_text(one), "rollouts": one.data.get("trace_ids") or []}
            for one in events
            if "alarm" in one.data
        ],
        "baseline": _baseline(validated),
        "result": row.best_step,
        "shown_step": shown.get("step"),
        "tiles": tiles(shown, train[0] if train else {}),
        "bottleneck": shown.get("bottleneck"),
        "time_shares": _shares(charts.get("time", [])),
        "task": _task(job),
        "charts": charts,
        "failures": shown.get("failures", {}),
        "failure_examples": shown.get("failure_examples", {}),
        "behaviours": shown.get("behaviours", {}),
        "events": [_event(one) for one in reversed(events[-EVENTS_SHOWN:])],
        "hyperparameters": row.hyperparameters or {},
    }


def step_bar(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The training steps with their rewards, from 0 to 1 between the lowest and the highest."""
    train = [row for row in metrics if row["phase"] == TRAIN and row.get("reward_mean") is not None]
    validated = {row["step"] for row in metrics if row["phase"] == VALIDATION}
    rewards = [float(row.get("reward_mean") or 0.0) for row in train]
    low, high = min(rewards, default=0.0), max(rewards, default=1.0)
    return [
        {
            "step": row["step"],
            "reward": reward,
            "level": round(level(reward, low, high), 3),
            "is_validated": row["step"] in validated,
        }
        for row, reward in zip(train, rewards, strict=True)
    ]


def _baseline(validated: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    first = next((row for row in validated if row["step"] == 0), None)
    if first is None:
        return None
    names = ("reward_mean", "pass_at_1", "pass_at_k", "zero_variance_share", "all_right_share", "all_wrong_share", "k")
    return {name: first.get(name) for name in names}


def _event(event: Event) -> dict[str, Any]:
    return {
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "step": event.data.get("step"),
    }


Rows = Iterator[dict[str, Any]]
Metrics = Sequence[Mapping[str, Any]]


def _rewards(metrics: Metrics, train: Metrics) -> Rows:
    for row in metrics:
        if row["phase"] not in (TRAIN, VALIDATION, TEST) or row.get("reward_mean") is None:
            continue
        half = 1.96 * (row.get("reward_std") or 0.0) / math.sqrt(max(1, row.get("samples") or 1))
        value = row["reward_mean"]
        yield {"step": row["step"], "series": row["phase"], "value": value, "low": value - half, "high": value + half}


def _losses(metrics: Metrics, train: Metrics) -> Rows:
    for row in metrics:
        if row.get("reward_mean") is None and row.get("loss") is not None:
            yield {"step": row["step"], "series": row["phase"], "value": row["loss"]}


def _graders(metrics: Metrics, train: Metrics) -> Rows:
    for row in train:
        for name, value in (row.get("sub_scores") or {}).items():
            yield {"step": row["step"], "series": name, "value": value}
        for name, value in (row.get("holdout_scores") or {}).items():
            yield {"step": row["step"], "series": f"holdout {name}", "value": value}


def _calls(metrics: Metrics, train: Metrics) -> Rows:
    for row in train:
        for name, panel in (row.get("tools") or {}).items():
            yield {"step": row["step"], "series": name, "value": panel.get("calls_per_rollout", 0.0)}


def _tokens(metrics: Metrics, train: Metrics) -> Rows:
    for row in train:
        if row.get("sampled_tokens_mean") is None:
            continue
        thought = row.get("reasoning_tokens_mean") or 0.0
        yield {
            "step": row["step"],
            "series": "answers and calls",
            "value": (row.get("sampled_tokens_mean") or 0.0) - thought,
        }
        if thought:
            yield {"step": row["step"], "series": "thoughts", "value": thought}


def _named(metrics: Metrics, train: Metrics, names: Mapping[str, str]) -> Rows:
    for row in train:
        for name, label in names.items():
            if isinstance(row.get(name), int | float):
                yield {"step": row["step"], "series": label, "value": row[name]}


def _entropy(metrics: Metrics, train: Metrics) -> Rows:
    for row in train:
        for number, value in enumerate(row.get("entropy_by_turn") or []):
            yield {"step": row["step"], "series": f"turn {number + 1}", "value": value}


def _time(metrics: Metrics, train: Metrics) -> Rows:
    for row in train:
        if row.get("rollout_s") is None:
            continue
        rollouts, update, whole = (row.get(name) or 0.0 for name in ("rollout_s", "update_s", "step_s"))
        generating = min(rollouts, row.get("engine_busy_s") or 0.0)
        parts = {
            "generation": generating,
            "waiting for tools and graders": rollouts - generating,
            "update": update,
            "the rest": max(0.0, whole - rollouts - update),
        }
        for name, value in parts.items():
            yield {"step": row["step"], "series": name, "value": value}


def _shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of all steps together, where their time went; the most first."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row["series"]] = sums.get(row["series"], 0.0) + row["value"]
    whole = sum(sums.values())
    return {name: value / whole for name, value in sorted(sums.items(), key=lambda pair: -pair[1])} if whole else {}


def _task(job: JobData) -> dict[str, Any]:
    """What the agent is asked, by the first row there is, and what it has to do it with."""
    first = next(iter(first_samples(job)), None)
    tools, grader = job.row.setting("tools"), job.row.setting("grader")
    return {
        "messages": [] if first is None else first.messages,
        "tools": [one.get("name") or one.get("server_label") for one in tools or []],
        "grader": None if not grader else grader.get("type"),
    }


def _of(names: Mapping[str, str]) -> Any:
    return lambda metrics, train: _named(metrics, train, names)


_ROWS: dict[str, Any] = {
    "rewards": _rewards,
    "losses": _losses,
    "graders": _graders,
    "calls": _calls,
    "tokens": _tokens,
    "latency": _of({"latency_p50_s": "median", "latency_p95_s": "p95"}),
    "shares": _of({name: GUIDES[name].label for name in SHARES}),
    "entropy": _entropy,
    "movement": _of({"kl_to_start": "from the start", "policy_change": "by the update"}),
    "gradient": _of({"grad_norm": "gradient norm"}),
    "ratios": _of({"clipped_share": "clipped", "truncated_ratio_share": "weights cut"}),
    "time": _time,
    "learner_tokens": _of({"unique_tokens": "computed", "total_tokens": "row by row"}),
}
