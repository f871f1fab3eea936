"""`agentrft report`: one file, HTML or PDF, that says what a job did and why its model changed."""

import base64
import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import yaml

from agentrft.dashboard.assets import DRAWING_REMEDY, text_of, vega
from agentrft.dashboard.charts import embedded
from agentrft.dashboard.facts_files import Setting
from agentrft.dashboard.indexing import look_through
from agentrft.dashboard.rendering import CHARTS
from agentrft.dashboard.runs import JobData, Runs, may_be_written
from agentrft.dashboard.step_files import own_facts, step_files
from agentrft.dashboard.templating import environment
from agentrft.dashboard.views import compare, overview, tools, why
from agentrft.errors import UserError
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TEST, VALIDATION
from agentrft.store.numbers import finite

PNG_SCALE = 2.0
# What the pictures of charts lack of a page.
PNG_WIDTH, PNG_BACKGROUND = 640, "white"
Paper = Literal["A4", "letter"]
PDF_REMEDY = "Run `pip install 'agentrft[pdf]'`."
PANGO_REMEDY = "Install Pango, such as by `apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0`."


def report_of(store: JobStore, job: JobRow, *, beside: bool = True) -> dict[str, Any]:
    """What the report says, as plain data. The facts of its rollouts are made first, where they are missing.

    Args:
        beside: whether facts may be kept in the job's folder. They are not where it may not be written; then those that
            are there are taken, and the others made for this report alone.
    """
    folder = store.job_folder(job.job_id)
    with ExitStack() as stack:
        facts_in = None
        if not beside or not may_be_written(own_facts(folder)):
            facts_in = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentrft-report-")))
            _take_along(folder, facts_in / job.job_id)
        runs = Runs(store, facts_in)
        stack.callback(runs.close)
        look_through(folder, Setting.of(job), runs.facts_folder(folder))
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


def _take_along(job_folder: Path, facts_folder: Path) -> None:
    """Copy the facts that are there."""
    facts_folder.mkdir(parents=True)
    for one in step_files(job_folder):
        if one.is_ready:
            # With its time, by which it is told whose facts it has.
            shutil.copy2(one.facts, facts_folder / one.facts.name)


def report_html(values: dict[str, Any]) -> str:
    """The file's content.

    Raises:
        UserError: charts cannot be drawn.
    """
    specs = {name: embedded(spec) for name, spec in _specs(values).items()}
    scripts = [vega().replace("</script", "<\\/script"), text_of("dashboard.js")]
    return _rendered(values, specs=specs, scripts=scripts, pictures={}, style=text_of("dashboard.css"))


def report_pdf(values: dict[str, Any], paper: Paper) -> bytes:
    """The same on paper.

    Raises:
        UserError: what makes it is not installed, or charts cannot be drawn.
    """
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:
        # Its Python part comes with pip; Pango, which sets the type, from the system.
        remedy = PDF_REMEDY if isinstance(error, ImportError) else PANGO_REMEDY
        raise UserError(f"a PDF needs WeasyPrint and Pango: {error}".splitlines()[0] + ".", remedy) from error
    pictures = {
        name: f"data:image/svg+xml;base64,{base64.b64encode(_drawn(name, spec, 'svg')).decode()}"
        for name, spec in _specs(values).items()
    }
    style = f"{text_of('dashboard.css')}\n@page {{ size: {paper}; }}\n"
    html = _rendered(values, specs={name: "" for name in pictures}, scripts=[], pictures=pictures, style=style)
    # Nothing is fetched from anywhere, whatever an answer of a model has in it.
    made = HTML(string=html, url_fetcher=URLFetcher(allowed_protocols={"data"})).write_pdf()
    assert made is not None
    return made


def write_charts(values: dict[str, Any], folder: Path) -> list[Path]:
    """Every chart as a PNG; their paths.

    Raises:
        UserError: one cannot be drawn.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, spec in _specs(values).items():
        path = folder / f"{name}.png"
        path.write_bytes(_drawn(name, spec, "png"))
        written.append(path)
    return written


def _rendered(values: dict[str, Any], **about: Any) -> str:
    return environment().get_template("report.html").render({**values, "chart_titles": CHARTS, **about})


def _drawn(name: str, spec: dict[str, Any], kind: Literal["png", "svg"]) -> bytes:
    try:
        import vl_convert
    except ImportError as error:
        raise UserError(f"charts need the package 'vl-convert-python': {error}.", DRAWING_REMEDY) from error
    drawn = {**spec, "width": PNG_WIDTH, "background": PNG_BACKGROUND}
    try:
        if kind == "svg":
            return vl_convert.vegalite_to_svg(json.dumps(finite(drawn))).encode()
        # A page has the title as text beside it.
        return vl_convert.vegalite_to_png(json.dumps(finite({**drawn, "title": CHARTS[name].title})), scale=PNG_SCALE)
    except ValueError as error:  # what vl-convert raises of whatever its JavaScript says
        raise UserError(
            f"the chart '{name}' cannot be drawn: {str(error).splitlines()[0][:300]}.",
            "Leave out --charts and --pdf: a browser may draw it. Please report it.",
        ) from error


def _specs(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    charts = {**values["overview"]["charts"], **values["tools"]["charts"]}
    return {name: CHARTS[name].spec(rows) for name, rows in charts.items()}
