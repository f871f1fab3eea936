"""`agentrft check`: a job looked at before it is paid for."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.running import run_stoppable
from agentrft.cli.targets import OutputDirOption, find_target

if TYPE_CHECKING:
    from agentrft.job import Stop
    from agentrft.job.check import AttackReport, CheckReport

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "error": "[red]error[/]"}


def check(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's file, or a stored job: its warm start.")],
    burst: Annotated[
        int | None,
        typer.Option("--burst", min=0, help="Calls at once of each tool; 0 for none.", show_default="the job's peak"),
    ] = None,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at data, tools and grader before training, attack the grader, and estimate time and tokens.

    Calls each tool for real, and rolls out one step of the base model. Exit code 0: nothing would fail the job.
    """
    output = Output(as_json=as_json)
    target = find_target(job, output_dir)
    output.console.print("Loading ...")
    from agentrft.job import resolve_reference
    from agentrft.job.check import check_job

    reference = resolve_reference(f"{target.job_id}@0", target.store) if target.job_id else None

    async def work(stop: "Stop") -> "CheckReport":
        return await stop.or_stopped(
            check_job(
                target.spec,
                reference=reference,
                burst=burst,
                say=lambda part: output.console.print(f"[dim]{part} ...[/]"),
            )
        )

    report = run_stoppable(work, output)
    output.emit(report.as_dict())
    _show(report, output)
    raise typer.Exit(report.exit_code)


def _show(report: "CheckReport", output: Output) -> None:
    for finding in report.findings:
        mark = MARKS[finding.level]
        output.console.print(f"{mark} [bold]{escape(finding.part)}[/]: {escape(finding.text)}", soft_wrap=True)
        if finding.remedy:
            output.console.print(f"   {escape(finding.remedy)}", soft_wrap=True)
    if report.attacks:
        output.console.print(_attack_table(report.attacks))
    levels = [finding.level for finding in report.findings]
    output.console.print(
        f"[bold]{levels.count('error')} errors, {levels.count('warning')} warnings[/] in {report.seconds:.0f} s"
    )


def _attack_table(attacks: "list[AttackReport]") -> Table:
    table = Table("attack on the grader", "mean score", "scores", "", title_justify="left")
    for attack in attacks:
        scores = " ".join(f"{score:.2f}" for score in attack.scores)
        note = "beats honest answers" if attack.beats_honest else "the grader fails" if attack.failures else ""
        table.add_row(attack.name, "" if attack.mean is None else f"{attack.mean:.2f}", scores, note)
    return table
