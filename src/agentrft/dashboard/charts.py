"""Charts as Vega-Lite specifications, made with Altair once for each kind; the rows are put in when a page is made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import altair

from agentrft.report.averages import level
from agentrft.store.numbers import finite

Mark = Literal["line", "bar", "area"]
HEIGHT = 180


@dataclass(frozen=True)
class Chart:
    """A picture of some rows.

    Attributes:
        name: what its rows are called in the page's data.
        y: the field that is drawn, over `x`.
        series: the field that rows are told apart by; empty where there is one series.
        band: fields of an interval around `y`.
        unit: how the axis is labelled.
        form: a d3 format of its numbers.
    """

    name: str
    title: str
    hint: str = ""
    x: str = "step"
    y: str = "value"
    series: str = "series"
    band: tuple[str, str] | None = None
    mark: Mark = "line"
    unit: str = ""
    form: str = "~g"
    height: int = HEIGHT

    def spec(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What Vega-Embed draws."""
        made = _spec(self)
        return {**made, "data": {"values": list(rows)}}


def embedded(spec: Mapping[str, Any]) -> str:
    """A specification as JSON that may stand in a page's script element."""
    return json.dumps(finite(spec)).replace("<", "\\u003c")


@cache
def _spec(chart: Chart) -> dict[str, Any]:
    x: Any = (
        altair.X(f"{chart.x}:Q", title=chart.x, axis=altair.Axis(tickMinStep=1, grid=False))
        if chart.mark != "bar"
        else altair.X(f"{chart.x}:O", title=chart.x, axis=altair.Axis(labelAngle=0))
    )
    axis = altair.Axis(title=chart.unit or None, format=chart.form)
    y = altair.Y(f"{chart.y}:Q", axis=axis, stack="zero" if chart.mark != "line" else None)
    told = [altair.Tooltip(f"{chart.x}:O"), altair.Tooltip(f"{chart.y}:Q", format=".4~g")]
    colours: dict[str, Any] = {}
    if chart.series:
        legend = altair.Legend(orient="top", title=None, labelLimit=240, columns=3)
        colours["color"] = altair.Color(f"{chart.series}:N", legend=legend)
        told.insert(0, altair.Tooltip(f"{chart.series}:N"))
    base = altair.Chart(altair.Data(values=[]))
    marks: dict[str, Any] = {
        "line": base.mark_line(point={"size": 26}, strokeWidth=2),
        "bar": base.mark_bar(),
        "area": base.mark_area(opacity=0.85, interpolate="step"),
    }
    drawn: Any = marks[chart.mark].encode(x=x, y=y, tooltip=told, **colours)
    if chart.band is not None:
        low, high = chart.band
        around = base.mark_area(opacity=0.18).encode(x=x, y=altair.Y(f"{low}:Q"), y2=f"{high}:Q", **colours)
        drawn = altair.layer(around, drawn)
    spec: dict[str, Any] = drawn.properties(width="container", height=chart.height).to_dict()
    # Its rows are the page's.
    spec.pop("data", None)
    spec.pop("datasets", None)
    spec.pop("config", None)
    for layer in spec.get("layer", []):
        layer.pop("data", None)
    return spec


def sparkline(values: Sequence[float | None], *, width: int = 120, height: int = 24) -> str:
    """The points of an SVG polyline; empty of fewer than two values."""
    known = [(number, value) for number, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(value for _, value in known), max(value for _, value in known)
    last = known[-1][0] or 1
    return " ".join(
        f"{number / last * width:.1f},{height - 2 - level(value, low, high) * (height - 4):.1f}"
        for number, value in known
    )
