"""`agentrft rollouts`: reading what the agent did."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.targets import OutputDirOption, open_store
from agentrft.cli.traces import trace
from agentrft.errors import UserError
from agentrft.store import JobRow, JobStore, read_rollouts, rollout_row

FILE_NAME = re.compile(r"(failed-)?(?P<phase>[a-z_]+)-(?P<step>\d+)")
PHASES = ("train", "validation")
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
    if phase not in (None, *PHASES):
        raise UserError(f"--phase {phase}: no such phase.", f"Give one of: {', '.join(PHASES)}.")
    if Path(job).suffix == ".parquet":
        source, rows = job, _read(Path(job))
    else:
        with open_store(output_dir) as store:
            source, rows = _newest(store, store.find_job(job), phase, step)
    if sample is not None:
        rows = _of_sample(rows, sample)
    chosen = _choose(rows, best, worst, limit)
    output.emit({"source": source, "rollouts": [row["record"] for row in chosen]})
    if as_json:
        return
    output.console.print(f"{source}: {len(chosen)} of {len(rows)} rollouts", markup=False, soft_wrap=True)
    for row in chosen:
        output.console.print(trace(row["record"]))


def _newest(store: JobStore, job: JobRow, phase: str | None, step: int | None) -> tuple[str, list[dict[str, Any]]]:
    """The rows of the newest step that fits: one in progress, else the file that was written last."""
    for source, rows in _in_progress(store, job, phase, step):
        if rows:
            return source, rows
    found = [
        path for path in (store.job_folder(job.job_id) / "rollouts").glob("*.parquet") if FILE_NAME.match(path.stem)
    ]
    fitting = [path for path in found if _fits(path, phase, step)]
    if not fitting:
        known = ", ".join(sorted(path.stem for path in found)) or "none yet"
        raise UserError(
            f"{job.job_id} ({job.status}) has no such rollouts{_error_of(job)}.", f"It has these (phase-step): {known}."
        )
    newest = max(fitting, key=lambda path: path.stat().st_mtime_ns)
    return f"{job.job_id} {newest.stem}", read_rollouts(newest)


def _in_progress(
    store: JobStore, job: JobRow, phase: str | None, step: int | None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    last = job.step if job.phase in PHASES else 0
    for one_phase in PHASES if phase is None else (phase,):
        for one_step in (last + 1, last) if step is None else (step,):
            pending = store.pending_rollouts(job.job_id, one_phase, one_step).values()
            source = f"{job.job_id} {one_phase}-{one_step:05d}, in progress"
            yield source, [rollout_row(record, phase=one_phase) for record in pending]


def _fits(path: Path, phase: str | None, step: int | None) -> bool:
    match = FILE_NAME.match(path.stem)
    return match is not None and phase in (None, match["phase"]) and step in (None, int(match["step"]))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file.", "`agentrft eval` writes one with --out.")
    return read_rollouts(path)


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


def _error_of(job: JobRow) -> str:
    return f"; it ended with: {job.error.splitlines()[0]}" if job.error else ""
