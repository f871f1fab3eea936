"""How long rollouts and tool calls take, and how many take longer than somebody is willing to wait."""

from dataclasses import dataclass
from typing import Any

from agentrft.dashboard.charts import Chart
from agentrft.dashboard.runs import JobData
from agentrft.store.layout import TRAIN

NAMES = {"rollouts": "rollouts", "calls": "tool calls"}
OVER = Chart("over", "Longer than that", "Shares of the rollouts and tool calls that took longer.", form=".0%")
CHARTS = (OVER,)


@dataclass(frozen=True)
class Thresholds:
    """Seconds from which on a rollout and a tool call count as slow."""

    rollout_s: float = 60.0
    call_s: float = 5.0


def latency(job: JobData, step: int | None, over: Thresholds = Thresholds()) -> dict[str, Any]:
    """Latencies of training, of all steps and of one of them; nothing where no facts are there yet."""
    over_s = {"rollouts": over.rollout_s, "calls": over.call_s}
    found = job.rollouts.latencies(TRAIN, over_s)
    lines = [
        {
            "of": NAMES[row["of"]],
            "step": row["step"],
            "count": row["n"],
            "p50_s": row["p50"],
            "p95_s": row["p95"],
            "over_s": over_s[row["of"]],
            "over_share": row["over"],
        }
        for row in found
    ]
    return {
        "over_s": over_s,
        "lines": [line for line in lines if line["step"] is None or line["step"] == step],
        "by_step": [
            {"step": line["step"], "series": f"{line['of']} over {line['over_s']:g} s", "value": line["over_share"]}
            for line in lines
            if line["step"] is not None
        ],
    }
