"""`agentrft report`: one HTML file that says what a job did and why its model changed, and needs nothing around it."""

import json
from pathlib import Path
from typing import Any

import yaml

from agentrft.dashboard.assets import text_of, vega
from agentrft.dashboard.facts_files import make_missing, tools_of
from agentrft.dashboard.findings_file import make_findings
from agentrft.dashboard.pages import CHARTS, environment
from agentrft.dashboard.runs import Runs
from agentrft.dashboard.views import compare, overview, tools, why
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TEST, VALIDATION
from agentrft.store.numbers import finite

# Of a comparison so many samples are listed.
CHANGES_SHOWN = 12
PNG_SCALE = 2.0
# What the pictures of charts lack of a page.
PNG_WIDTH, PNG_BACKGROUND = 640, "white"


def report_of(store: JobStore, job: JobRow) -> dict[str, Any]:
    """What the report says, as plain data. The facts of its rollouts are made first, where they are missing."""
    folder = store.job_folder(job.job_id)
    make_missing(folder, tools_of(job.setting("tools")))
    make_findings(folder)
    runs = Runs(store)
    try:
        metrics = store.metrics(job.job_id)
        phases = {row["phase"] for row in metrics}
        measured = TEST if TEST in phases else VALIDATION
        return {
            "job": job,
            "overview": overview.overview(runs, job, None),
            "compared": compare.compare(runs, job, job, phase=measured, step_a=None, step_b=None)
            if measured in phases
            else None,
            "why": why.why(runs, job),
            "tools": tools.tools(runs, job),
            "settings": yaml.safe_dump(job.spec.get("job") or {}, sort_keys=False, allow_unicode=True),
            "files": job.spec.get("files") or {},
            "changes_shown": CHANGES_SHOWN,
        }
    finally:
        runs.close()


def report_html(values: dict[str, Any]) -> str:
    """The file's content."""
    charts = {**values["overview"]["charts"], **values["tools"]["charts"]}
    specs = {name: json.dumps(finite(CHARTS[name].spec(rows))).replace("<", "\\u003c") for name, rows in charts.items()}
    scripts = [vega().replace("</script", "<\\/script"), text_of("dashboard.js")]
    style = text_of("dashboard.css")
    template = environment().get_template("report.html")
    return template.render({**values, "specs": specs, "chart_titles": CHARTS, "scripts": scripts, "style": style})


def write_charts(values: dict[str, Any], folder: Path) -> list[Path]:
    """Every chart as a PNG; their paths."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, rows in {**values["overview"]["charts"], **values["tools"]["charts"]}.items():
        spec = {**CHARTS[name].spec(rows), "width": PNG_WIDTH, "background": PNG_BACKGROUND}
        spec["title"] = CHARTS[name].title
        path = folder / f"{name}.png"
        path.write_bytes(vl_convert.vegalite_to_png(json.dumps(finite(spec)), scale=PNG_SCALE))
        written.append(path)
    return written
