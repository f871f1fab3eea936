"""`agentrft report`: one HTML file that says what a job did and why its model changed, and needs nothing around it."""

import json
from pathlib import Path
from typing import Any

import yaml

from agentrft.dashboard.assets import text_of, vega
from agentrft.dashboard.charts import embedded
from agentrft.dashboard.facts_files import make_missing, tools_of
from agentrft.dashboard.findings_file import make_findings
from agentrft.dashboard.pages import CHARTS, environment
from agentrft.dashboard.runs import JobData, Runs
from agentrft.dashboard.views import compare, overview, tools, why
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TEST, VALIDATION
from agentrft.store.numbers import finite

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
        data = JobData(runs, job)
        phases = {row["phase"] for row in data.metrics}
        measured = TEST if TEST in phases else VALIDATION
        return {
            "overview": overview.overview(data, None),
            "compared": compare.compare(data, data, phase=measured, step_a=None, step_b=None)
            if measured in phases
            else None,
            "why": why.why(data),
            "tools": tools.tools(data),
            "settings": yaml.safe_dump(job.spec.get("job") or {}, sort_keys=False, allow_unicode=True),
            "files": job.spec.get("files") or {},
        }
    finally:
        runs.close()


def report_html(values: dict[str, Any]) -> str:
    """The file's content."""
    specs = {name: embedded(spec) for name, spec in _specs(values).items()}
    scripts = [vega().replace("</script", "<\\/script"), text_of("dashboard.js")]
    style = text_of("dashboard.css")
    template = environment().get_template("report.html")
    return template.render({**values, "specs": specs, "chart_titles": CHARTS, "scripts": scripts, "style": style})


def write_charts(values: dict[str, Any], folder: Path) -> list[Path]:
    """Every chart as a PNG; their paths."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, spec in _specs(values).items():
        drawn = {**spec, "width": PNG_WIDTH, "background": PNG_BACKGROUND, "title": CHARTS[name].title}
        path = folder / f"{name}.png"
        path.write_bytes(vl_convert.vegalite_to_png(json.dumps(finite(drawn)), scale=PNG_SCALE))
        written.append(path)
    return written


def _specs(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    charts = {**values["overview"]["charts"], **values["tools"]["charts"]}
    return {name: CHARTS[name].spec(rows) for name, rows in charts.items()}
