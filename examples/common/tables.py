"""What systems came to, kept as JSON beside each example, and as a table in the documentation."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.common.measuring import REWARD, SLOW
from examples.common.system import Measure, System

BEGIN, END = "<!-- systems: made by `make results` -->", "<!-- end of systems -->"


def keep(system: System, seed: int, result: Mapping[str, Any]) -> Path:
    """Write a run's numbers into the example's `results/`."""
    path = system.folder / "results" / f"seed-{seed}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def kept(system: System) -> dict[int, dict[str, Any]]:
    """By seed what was kept of the system's runs."""
    found = {int(path.stem.partition("-")[2]): path for path in (system.folder / "results").glob("seed-*.json")}
    return {seed: json.loads(found[seed].read_text(encoding="utf-8")) for seed in sorted(found)}


def summary(system: System, result: Mapping[str, Any]) -> dict[str, Any]:
    """A run in the last line of `make results`: what the system is known by, and all that was measured."""
    changes = result["changes"]
    main = changes[system.told[0].name]
    return {
        "baseline": main["before"],
        "trained": main["after"],
        "interval": [main["low"], main["high"]],
        "measures": {name: [one["before"], one["after"], one["low"], one["high"]] for name, one in changes.items()},
    }


def table(systems: Sequence[System]) -> str:
    """Markdown: each measure of each system that has results, by seed."""
    lines: list[str] = []
    for system in systems:
        results = kept(system)
        if not results:
            continue
        lines += [f"### {system.title}", ""]
        lines += ["| | " + " | ".join(f"seed {seed}" for seed in results) + " |", "|---" * (len(results) + 1) + "|"]
        for measure in (*system.told, REWARD, SLOW):
            cells = [_cell(measure, result["changes"].get(measure.name)) for result in results.values()]
            lines.append(f"| {measure.label} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines) or "No run has been measured yet.\n"


def write_table(page: Path, systems: Sequence[System]) -> None:
    """Put the table between its marks on a page.

    Raises:
        ValueError: the page lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} ... {END}")
    page.write_text(f"{before}{BEGIN}\n\n{table(systems)}\n{END}{after}", encoding="utf-8")


def _cell(measure: Measure, change: Mapping[str, Any] | None) -> str:
    if change is None or not change["samples"]:
        return ""
    text = f"{_told(change['before'])} → {_told(change['after'])}"
    if measure.told_as == "median" or change["low"] is None:
        return text
    return f"{text} ({change['low']:+.2f} to {change['high']:+.2f})"


def _told(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
