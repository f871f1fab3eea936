"""How much ran at once over time, and which endpoints were down meanwhile."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agentrft.dashboard.charts import Chart
from agentrft.dashboard.runs import JobData
from agentrft.store import Event
from agentrft.store.layout import TRAIN
from agentrft.traffic.breaker import outage_of

POINTS = 200
RUNNING = Chart(
    "running",
    "At once",
    "Rollouts and tool calls that ran at the same time, by when each began and how long it took.",
    x="minutes",
    unit="at once",
    form=".3~s",
)
DOWN = Chart(
    "outages",
    "Endpoints that were down",
    "Calls to them waited until they answered again, or took their credential again.",
    x="minutes",
    mark="area",
    series="",
    unit="endpoints",
)
CHARTS = (RUNNING, DOWN)


def running(job: JobData) -> list[dict[str, Any]]:
    """Rows of `RUNNING`."""
    spans = {name: span for name, span in job.rollouts.spans(TRAIN).items() if len(span[0])}
    if not spans:
        return []
    first = min(float(start.min()) for start, _ in spans.values())
    last = max(float((start + seconds).max()) for start, seconds in spans.values())
    edges = np.linspace(first, max(last, first + 1e-3), POINTS + 1)
    return [
        {"minutes": round((edge - job.row.created_at) / 60, 4), "series": name, "value": round(value, 3)}
        for name, (start, seconds) in spans.items()
        for edge, value in zip(edges[:-1].tolist(), at_once(start, seconds, edges).tolist(), strict=True)
    ]


def at_once(start: Any, seconds: Any, edges: Any) -> Any:
    """How many of these ran at the same time, as the mean of each stretch between two edges."""

    def worked(moments: Any) -> Any:
        """Of each edge, the time since that moment, of all moments that lie before it, together."""
        ordered = np.sort(moments)
        before = np.searchsorted(ordered, edges)
        return before * edges - np.concatenate([[0.0], np.cumsum(ordered)])[before]

    # Counted from the first edge: seconds since the epoch leave few digits for a sum of many.
    origin, edges = edges[0], edges - edges[0]
    done = worked(start - origin) - worked(start - origin + seconds)
    return np.diff(done) / np.diff(edges)


def outages(job: JobData, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Rows of `DOWN`: the number after each change."""
    rows: list[dict[str, Any]] = []
    down: set[str] = set()
    for event in events:
        told = outage_of(event.message)
        if told is None:
            continue
        endpoint, is_down = told
        minutes = (event.created_at - job.row.created_at) / 60
        if not rows:
            rows.append({"minutes": 0.0, "value": 0})
        (down.add if is_down else down.discard)(endpoint)
        rows.append({"minutes": round(minutes, 4), "value": len(down)})
    if down:
        rows.append(
            {"minutes": round((max(one.created_at for one in events) - job.row.created_at) / 60, 4), "value": len(down)}
        )
    return rows
