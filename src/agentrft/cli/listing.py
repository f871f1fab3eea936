"""`jobs`, `events` and `models`: what is there."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer
from rich.table import Table

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.targets import DEFAULT_OUTPUT_DIR, OutputDirOption, StoredJobArgument, open_store, open_store_if_there
from agentrft.models import list_models
from agentrft.store import JobRow, JobStore

STEP_FOLDERS = "checkpoints/step-*"


def jobs(output_dir: OutputDirOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """List jobs, newest first."""
    output = Output(as_json=as_json)
    with open_store(output_dir) as store:
        rows = [(job, _best_reward(store, job)) for job in store.list_jobs()]
    output.emit({"jobs": [_job(job, reward) for job, reward in rows]})
    table = Table("job", "status", "phase", "step", "best validation reward", "created", "model")
    table.columns[0].no_wrap = table.columns[-2].no_wrap = True
    for job, reward in rows:
        table.add_row(
            job.job_id,
            job.status,
            job.phase or "",
            f"{job.step}/{job.total_steps}" if job.total_steps and job.phase != "warm_start" else str(job.step),
            "" if reward is None else f"{reward:.3f} at step {job.best_step}",
            _time(job.created_at),
            job.model,
        )
    output.console.print(table)


def events(
    job: StoredJobArgument = "latest",
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what happened in a job."""
    output = Output(as_json=as_json)
    with open_store(output_dir) as store:
        row = store.find_job(job)
        happened = store.events(row.job_id)
    output.emit({"job": row.job_id, "status": row.status, "error": row.error, "events": [asdict(e) for e in happened]})
    output.console.print(f"{row.job_id}: {row.status}")
    for event in happened:
        output.console.print(f"{_time(event.created_at)} {event.level:7} {event.message}", markup=False, soft_wrap=True)
    if row.error:
        output.console.print(f"ended with: {row.error}", markup=False, soft_wrap=True)


def models(
    context: typer.Context,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List models: what `model:` takes here without the network, and what was trained."""
    if context.invoked_subcommand is not None:
        return
    output = Output(as_json=as_json)
    store = open_store_if_there(output_dir or DEFAULT_OUTPUT_DIR)
    trained: Sequence[tuple[JobRow, list[int]]] = []
    if store is not None:
        with store:
            trained = [(job, steps) for job in store.list_jobs() if (steps := _steps(store, job))]
    available = list_models()
    output.emit(
        {
            "models": [asdict(model) for model in available],
            "trained": [{"job": job.job_id, "model": job.model, "steps": steps} for job, steps in trained],
        }
    )
    table = Table("model:", "parameters", "here")
    for model in available:
        parameters = "" if model.parameters is None else f"{model.parameters / 1e6:.0f} M"
        table.add_row(model.name, parameters, str(model.path) if model.cached else "made on first use")
    output.console.print(table)
    output.console.print("`model:` also takes a folder with config.json and safetensors, or any Hugging Face id.")
    if trained:
        table = Table("trained", "from", "steps with weights (JOB@STEP)")
        for job, steps in trained:
            table.add_row(job.job_id, job.model, ", ".join(map(str, steps)))
        output.console.print(table)


def _job(job: JobRow, best_reward: float | None) -> dict[str, Any]:
    values = asdict(job)
    del values["spec"]
    return {**values, "best_validation_reward": best_reward}


def _best_reward(store: JobStore, job: JobRow) -> float | None:
    from agentrft.report.best import best_validation

    if not job.has_rollouts:
        return None
    validated = [row for row in store.metrics(job.job_id) if row["phase"] == "validation"]
    return best_validation(validated)["reward_mean"] if validated else None


def _steps(store: JobStore, job: JobRow) -> list[int]:
    folders = store.job_folder(job.job_id).glob(STEP_FOLDERS)
    return sorted(int(folder.name.removeprefix("step-")) for folder in folders)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
