"""The table of docs/scale.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT

PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- made by make simulate -->\n", "<!-- end of what make simulate makes -->\n"
HEADS = (
    "GPUs",
    "in flight",
    "of ideal",
    "tokens/s",
    "engines idle",
    "driver busy",
    "oldest token, mean (updates)",
    "database MB/s",
    "commits/s",
    "object store MB/s, read and written",
)


def row(point: Mapping[str, Any]) -> str:
    """One point, by what a reader asks first."""
    cells = (
        f"{point['engines']:,}",
        f"{point['in_flight']:,}",
        f"{point['ideal_share']:.2f}",
        f"{point['tokens_per_s']:,.0f}",
        f"{max(0.0, point['idle_share']):.1%}",
        f"{min(1.0, point['driver_busy']):.0%}",
        f"{point['off_policy_steps']}, {point['off_policy_steps_mean']:.1f}",
        f"{point['database_bytes_per_s'] / 1e6:.2f}",
        f"{point['commits_per_s']:.1f}",
        f"{point['bucket_read_bytes_per_s'] / 1e6:.1f}, {point['bucket_written_bytes_per_s'] / 1e6:.2f}",
    )
    return _line(cells)


def table(points: Sequence[Mapping[str, Any]], costs: Mapping[str, float], rollout_s: float) -> str:
    """What a rollout costs the driver, and the points."""
    parts = ", ".join(
        f"{1000 * costs[name]:.1f} ms {what}"
        for name, what in (
            ("turn_s", "a turn"),
            ("call_s", "a tool call"),
            ("record_s", "for its record"),
            ("disk_s", "for the disk at its commit"),
            ("step_s", "in its step's file"),
        )
    )
    said = f"A rollout cost the driver {1000 * rollout_s:.0f} ms: {parts}.\n\n"
    return said + "\n".join([_line(HEADS), _line(["---"] * len(HEADS)), *map(row, points)]) + "\n"


def write(text: str, page: Path = PAGE) -> None:
    """Put it into the page, in place of what was made before."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page}: the marks {BEGIN.strip()!r} and {END.strip()!r} are not there; put them back")
    page.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
