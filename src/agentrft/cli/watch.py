"""`agentrft watch`: a job as it runs, in a terminal, from any other one."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from agentrft.cli.output import DebugOption, Output
from agentrft.cli.progress import STYLES
from agentrft.cli.targets import OutputDirOption, StoredJobArgument, open_store
from agentrft.report.averages import level
from agentrft.store import Event, JobRow, JobStore
from agentrft.store.states import ENDED

# A job that is paused or was interrupted goes on when somebody resumes it, and not by being watched.
STANDS = (*ENDED, "paused", "interrupted")
BARS = "▁▂▃▄▅▆▇█"
STEPS_SHOWN, EVENTS_SHOWN = 12, 5
LEVELS = {"good": "green", "note": "yellow", "bad": "red"}
COLUMNS = {
    "step": "step",
    "reward_mean": "reward",
    "pass_at_1": "pass@1",
    "zero_variance_share": "alike",
    "tool_calls_mean": "calls",
    "sampled_tokens_mean": "tokens",
    "truncation_share": "cut off",
    "entropy": "entropy",
    "policy_change": "change",
    "step_s": "s",
}


def watch(
    job: StoredJobArgument = "latest",
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 1.0,
    output_dir: OutputDirOption = None,
    debug: DebugOption = False,
) -> None:
    """Watch a job that another process runs, until it ends: its steps, how it goes in words, and its events."""
    console = Output(as_json=False).console
    with open_store(output_dir) as store:
        job_id = store.find_job(job).job_id
        show = _draw if console.is_terminal else _tell
        show(store, job_id, console, every)


def _draw(store: JobStore, job_id: str, console: Console, every: float) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            job = store.get_job(job_id)
            live.update(_picture(job, store.metrics(job_id), store.events(job_id)), refresh=True)
            if job.status in STANDS:
                return
            time.sleep(every)


def _tell(store: JobStore, job_id: str, console: Console, every: float) -> None:
    """A line for each step and event, where nobody draws."""
    steps = last = 0
    while True:
        job = store.get_job(job_id)
        metrics = store.metrics(job_id)
        for row in metrics[steps:]:
            reward = row.get("reward_mean")
            told = "" if reward is None else f": reward {reward:.3f}"
            console.print(f"{row['phase']}, step {row['step']}{told}", soft_wrap=True, markup=False)
        steps = len(metrics)
        for event in store.events(job_id, after=last):
            console.print(f"{event.level}: {event.message}", soft_wrap=True, markup=False)
            last = event.number
        if job.status in STANDS:
            console.print(f"{job_id} {job.status}", soft_wrap=True)
            return
        time.sleep(every)


def _picture(job: JobRow, metrics: Sequence[Mapping[str, Any]], events: Sequence[Event]) -> RenderableType:
    from agentrft.report.diagnosis import diagnose

    train = [row for row in metrics if row["phase"] == "train"]
    table = Table(*COLUMNS.values(), box=None, pad_edge=False)
    for row in train[-STEPS_SHOWN:]:
        table.add_row(*[_cell(row.get(column)) for column in COLUMNS])
    total = f" of {job.total_steps}" if job.total_steps else ""
    head = Text(f"{job.job_id}  {job.status}  {job.model}  step {train[-1]['step'] if train else 0}{total}", "bold")
    rewards = Text(bars([float(row.get("reward_mean") or 0.0) for row in train]), "cyan")
    said = [
        Text.from_markup(f"[{LEVELS[one.level]}]{escape(one.text)}[/] {escape(one.remedy)}")
        for one in diagnose(metrics)
    ]
    told = [Text(one.message, STYLES[one.level]) for one in events[-EVENTS_SHOWN:]]
    return Group(head, rewards, table, *said, Text(), *told)


def bars(values: Sequence[float]) -> str:
    """A character for each value, between the lowest and the highest."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return "".join(BARS[min(len(BARS) - 1, int(level(value, low, high) * len(BARS)))] for value in values)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3g}"
