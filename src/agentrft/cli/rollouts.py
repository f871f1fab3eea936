"""`agentrft rollouts`: reading what the agent did."""

from typing import Annotated, Any

import typer

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.sources import stored_rollouts
from agentrft.cli.targets import OutputDirOption
from agentrft.cli.traces import trace
from agentrft.errors import UserError

LIMIT = 5


def rollouts(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="A stored job: id, prefix or `latest`; or a Parquet file of rollouts.")
    ] = "latest",
    phase: Annotated[str | None, typer.Option("--phase", help="`train` or `validation`.")] = None,
    step: Annotated[int | None, typer.Option("--step", help="Which step.", show_default="the newest")] = None,
    sample: Annotated[str | None, typer.Option("--sample", help="Only this sample: its id or the start of it.")] = None,
    best: Annotated[int | None, typer.Option("--best", min=1, help="The so many with the highest reward.")] = None,
    worst: Annotated[
        int | None, typer.Option("--worst", min=1, help="The so many with the lowest reward; broken ones first.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, without --best and --worst.")] = LIMIT,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show rollouts: messages, calls, results, grade and reward."""
    output = Output(as_json=as_json)
    if best and worst:
        raise UserError("--best and --worst exclude each other.", "Give one of them.")
    source, rows = stored_rollouts(job, output_dir, phase=phase, step=step)
    if sample is not None:
        rows = _of_sample(rows, sample)
    chosen = _choose(rows, best, worst, limit)
    output.emit({"source": source, "rollouts": [row["record"] for row in chosen]})
    if as_json:
        return
    output.console.print(f"{source}: {len(chosen)} of {len(rows)} rollouts", markup=False, soft_wrap=True)
    for row in chosen:
        output.console.print(trace(row["record"]))


def _of_sample(rows: list[dict[str, Any]], sample: str) -> list[dict[str, Any]]:
    found = [row for row in rows if row["sample_id"].startswith(sample)]
    if not found:
        known = ", ".join(list(dict.fromkeys(row["sample_id"] for row in rows))[:LIMIT])
        raise UserError(
            f"there is no sample '{sample}' in this step.", f"It has {known} and so on; try another --step."
        )
    return found


def _choose(rows: list[dict[str, Any]], best: int | None, worst: int | None, limit: int) -> list[dict[str, Any]]:
    if best is None and worst is None:
        return rows[:limit]
    # A rollout that broke has no reward: it is the first to look at among the worst.
    ordered = sorted(rows, key=lambda row: float("-inf") if row["reward"] is None else row["reward"])
    return ordered[:worst] if best is None else ordered[::-1][:best]
