"""`agentrft grade`: working on a grader, with rollouts that are there or an answer that a person writes."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from agentrft.cli.errors import CommandFailed
from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.sources import stored_rollouts
from agentrft.cli.targets import OutputDirOption, find_target
from agentrft.data import load_samples
from agentrft.errors import EndpointError, UserError
from agentrft.wire import WireError, parse

if TYPE_CHECKING:
    from agentrft.job.regrade import Regrade

SHOWN = 10


def grade(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Whose grader: a job's file, or a stored job.")],
    rollouts: Annotated[
        str | None,
        typer.Option("--rollouts", metavar="JOB", help="Grade these again: of a stored job, or a Parquet file."),
    ] = None,
    phase: Annotated[str | None, typer.Option("--phase", help="`train` or `validation`, of --rollouts.")] = None,
    step: Annotated[int | None, typer.Option("--step", help="Of --rollouts.", show_default="the newest")] = None,
    answer: Annotated[str | None, typer.Option("--answer", help="Grade this text.")] = None,
    output_tools: Annotated[
        str | None,
        typer.Option(
            "--output-tools",
            metavar="JSON",
            help="Calls made before --answer: a list in Chat Completions shape, which graders read as "
            "`sample.output_tools`.",
        ),
    ] = None,
    row: Annotated[int, typer.Option("--row", min=1, help="Which training row it answers.")] = 1,
    holdout: Annotated[str | None, typer.Option("--holdout", help="Use this holdout grader instead.")] = None,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a job's grader: on rollouts again, without a model or a tool call, or on an answer that you write."""
    output = Output(as_json=as_json)
    if (rollouts is None) == (answer is None):
        raise UserError("give either --rollouts or --answer.", "For example --rollouts latest, or --answer 'A01.02'.")
    if output_tools is not None and answer is None:
        raise UserError("--output-tools belongs to --answer.", "Give --answer, too, if only ''.")
    spec = find_target(job, output_dir).spec
    grader = spec.grader
    if holdout is not None:
        if holdout not in spec.holdout_graders:
            known = ", ".join(spec.holdout_graders) or "none"
            raise UserError(f"--holdout {holdout}: no such holdout grader.", f"The job has: {known}.")
        grader = spec.holdout_graders[holdout]
    train = load_samples(spec.training_file)
    from agentrft.job.regrade import grade_answer, regrade
    from agentrft.rollout import Rollout

    if answer is not None:
        if row > len(train):
            raise UserError(f"--row {row}: the training file has {len(train)} rows.", "Count from 1.")
        one = asyncio.run(grade_answer(grader, answer, train[row - 1], _calls(output_tools)))
        if one.failure is not None:
            raise CommandFailed(EndpointError(one.failure, "Mend the grader."), asdict(one))
        output.emit(asdict(one))
        _show_one(one, output)
        return
    source, rows = stored_rollouts(str(rollouts), output_dir or spec.output_dir, phase=phase, step=step)
    samples = [*train, *(load_samples(spec.validation_file) if spec.validation_file else [])]
    found, left_out = asyncio.run(
        regrade(grader, [Rollout.from_dict(row["record"]) for row in rows], {one.sample_id: one for one in samples})
    )
    output.emit({"source": source, "left_out": left_out, "rollouts": [asdict(one) for one in found]})
    _show_all(source, found, left_out, output)


def _calls(given: str | None) -> list[dict[str, Any]]:
    from agentrft.graders import OutputToolsError, read_output_tools

    remedy = """For example --output-tools '[{"function": {"name": "search", "arguments": {"query": "x"}}}]'."""
    try:
        return read_output_tools(None if given is None else parse(given))
    except WireError as error:
        raise UserError(f"--output-tools: {error}", remedy) from error
    except OutputToolsError as error:
        raise UserError(f"--{error}", remedy) from error


def _show_one(one: "Regrade", output: Output) -> None:
    parts = "".join(f"  {name} {score:.3f}" for name, score in one.sub_scores.items())
    output.console.print(f"[bold]score {one.after:.3f}[/]{escape(parts)}  in {one.latency_s * 1000:.0f} ms")
    if one.reason:
        output.console.print(f"reason: {escape(one.reason)}", soft_wrap=True)
    if one.usage:
        output.console.print("tokens: " + ", ".join(f"{count} {name}" for name, count in one.usage.items()))


def _show_all(source: str, found: "list[Regrade]", left_out: int, output: Output) -> None:
    both = [(one, one.before, one.after) for one in found if one.before is not None and one.after is not None]
    failed = [one for one in found if one.failure is not None]
    output.console.print(f"{escape(source)}: {len(found)} graded again, {left_out} left out without an answer or a row")
    if both:
        before = sum(old for _, old, _ in both) / len(both)
        after = sum(new for _, _, new in both) / len(both)
        output.console.print(f"mean score [bold]{before:.3f} before, {after:.3f} now[/]")
    if failed:
        output.console.print(
            f"[red]{len(failed)} failed[/], the first: {escape(str(failed[0].failure))}", soft_wrap=True
        )
    missing = [one for one in found if one.missing]
    if missing:
        output.console.print(
            f"{len(missing)} got the lowest score, because they lack what the grader reads: "
            f"{', '.join(sorted({name for one in missing for name in one.missing}))}",
            soft_wrap=True,
        )
    changed = sorted((pair for pair in both if pair[1] != pair[2]), key=lambda pair: -abs(pair[2] - pair[1]))
    if changed:
        table = Table("rollout", "sample", "before", "now", title=f"{len(changed)} changed", title_justify="left")
        for one, old, new in changed[:SHOWN]:
            table.add_row(one.trace_id, one.sample_id, f"{old:.3f}", f"{new:.3f}")
        output.console.print(table)
