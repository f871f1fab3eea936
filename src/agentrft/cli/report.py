"""`agentrft report`: a job in one file, of HTML or PDF."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentrft.cli.errors import needing
from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.targets import OutputDirOption, StoredJobArgument, open_store
from agentrft.errors import UserError


class Paper(StrEnum):
    A4 = "A4"
    LETTER = "letter"


def report(
    job: StoredJobArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file to write.", show_default="report.html or report.pdf in the job's folder"),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write a PDF; so does a name that ends in .pdf.")] = False,
    paper: Annotated[Paper, typer.Option("--paper", help="Of the PDF.")] = Paper.A4,
    charts: Annotated[
        Path | None, typer.Option("--charts", help="Also write every chart as a PNG to this folder.")
    ] = None,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write what a job did, and why its model changed, into one file that needs nothing around it."""
    output = Output(as_json=as_json)
    with open_store(output_dir) as store:
        row = store.find_job(job)
        with needing("report", "dashboard"):
            from agentrft.dashboard.report_file import report_html, report_of, report_pdf, write_charts
        folder = store.job_folder(row.job_id)
        is_pdf = pdf or (out is not None and out.suffix.lower() == ".pdf")
        path = out or folder / ("report.pdf" if is_pdf else "report.html")
        try:
            # Who names another place wants the job's folder left as it is.
            values = report_of(store, row, beside=path.absolute().is_relative_to(folder))
            content = report_pdf(values, paper.value) if is_pdf else report_html(values).encode("utf-8", "replace")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            pictures = [] if charts is None else write_charts(values, charts)
        except OSError as error:
            raise UserError(f"{error.filename or path}: {error.strerror or error}.", "Name another place.") from error
    suspects = [one["name"] for one in values["why"]["suspects"]]
    output.emit({"job": row.job_id, "file": str(path), "charts": [str(one) for one in pictures], "suspects": suspects})
    for one in values["overview"]["said"]:
        output.console.print(one["text"], soft_wrap=True, markup=False)
    for one in values["why"]["suspects"]:
        output.console.print(f"Suspect: {one['text']}", soft_wrap=True, markup=False)
    for one in values["why"]["unproven"]:
        output.console.print(one["doubt"], soft_wrap=True, markup=False)
    output.console.print(f"Written: {path}", soft_wrap=True, markup=False)
