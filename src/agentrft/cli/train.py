"""`agentrft train`: a new job, or an interrupted one again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from agentrft.cli.errors import CommandFailed
from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.overrides import load_job_with
from agentrft.cli.progress import ConsoleProgress
from agentrft.cli.running import run_stoppable
from agentrft.cli.targets import OutputDirOption, check_inputs, folder_option, open_store
from agentrft.errors import AgentRFTError, UserError
from agentrft.spec import AnyJobSpec, JobSpec
from agentrft.store import JobStore
from agentrft.store.layout import TEST, TRAIN, VALIDATION, checkpoints_folder


def train(
    job_file: Annotated[Path | None, typer.Argument(metavar="JOB.YAML", help="The job's file.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="JOB", help="Go on with a stored job: id, prefix or `latest`.")
    ] = None,
    output_dir: OutputDirOption = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Stop after so many steps.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of adapters, sample order and sampling.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Replace a field of the job; repeatable.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a job to its end. Ctrl-C and kill -9 lose nothing that was finished: --resume goes on."""
    output = Output(as_json=as_json)
    changes = list(overrides or [])
    changes += [f"seed={seed}"] if seed is not None else []
    changes += [f"hyperparameters.max_steps={max_steps}"] if max_steps is not None else []
    if output_dir is not None and resume is None:
        changes.append(f"output_dir={output_dir.absolute()}")
    if (job_file is None) == (resume is None):
        raise UserError(
            "give either a job's file or --resume JOB.",
            "`agentrft train job.yaml`, or `agentrft train --resume latest`.",
        )
    if job_file is not None:
        spec = load_job_with(job_file, changes)
        check_inputs(spec)
        store, job_id = new_job(spec, job_file, output)
    else:
        if changes:
            raise UserError("--set, --seed and --max-steps cannot change a stored job.", "Leave them out.")
        spec, store, job_id = _stored_job(str(resume), output_dir, output)
    with store:
        run(spec, store, job_id, output)
        has_rollouts = isinstance(spec, JobSpec)
        result = _result(store, job_id) if has_rollouts else _losses(store, job_id)
    output.emit(result)
    if has_rollouts:
        _show(result, output)
    else:
        _show_losses(result, output)


def new_job(spec: AnyJobSpec, job_file: Path, output: Output) -> tuple[JobStore, str]:
    """Store a new job, and say so."""
    output.console.print("Loading ...")
    from agentrft.job import create_job

    store, job_id = create_job(spec, source=job_file)
    output.console.print(f"Job {job_id}, in {store.job_folder(job_id)}", soft_wrap=True)
    return store, job_id


def run(spec: AnyJobSpec, store: JobStore, job_id: str, output: Output, *, warm_start_only: bool = False) -> None:
    """Run a stored job with its progress shown.

    Raises:
        CommandFailed: with the job's id in its result.
    """
    from agentrft.job import run_job

    try:
        with ConsoleProgress(output.console, store.metrics(job_id)) as progress:
            run_stoppable(
                lambda stop: run_job(
                    spec, store, job_id, progress=progress, stop=stop, warm_start_only=warm_start_only
                ),
                output,
            )
    except AgentRFTError as error:
        raise CommandFailed(error, {"job": job_id, "status": store.get_job(job_id).status}) from error


def _stored_job(name: str, output_dir: Path | None, output: Output) -> tuple[AnyJobSpec, JobStore, str]:
    store = open_store(output_dir)
    job = store.find_job(name)
    if job.status == "succeeded":
        raise UserError(
            f"{job.job_id} has ended: all {job.total_steps} steps are done.",
            f"Measure it with `agentrft eval {job.job_id}`, or start a new job.",
        )
    output.console.print(f"Going on with {job.job_id} ({job.status}, {job.phase or 'not begun'}, step {job.step}) ...")
    from agentrft.job import resume_job

    return resume_job(store, job.job_id), store, job.job_id


def _result(store: JobStore, job_id: str) -> dict[str, Any]:
    from agentrft.report.best import best_validation

    job = store.get_job(job_id)
    metrics = store.metrics(job_id)
    validations = [row for row in metrics if row["phase"] == "validation"]
    validated = [row["reward_mean"] for row in validations]
    tested = [row["reward_mean"] for row in metrics if row["phase"] == TEST]
    trained = [row["reward_mean"] for row in metrics if row["phase"] == "train"]
    return {
        "job": job_id,
        "status": job.status,
        "steps": len(trained),
        "best_step": job.best_step,
        "validation_reward_first": validated[0] if validated else None,
        "validation_reward_best": best_validation(validations)["reward_mean"] if validations else None,
        "validation_reward_last": validated[-1] if validated else None,
        "test_reward_first": tested[0] if tested else None,
        "test_reward_result": tested[-1] if tested else None,
        "train_reward_first": trained[0] if trained else None,
        "train_reward_last": trained[-1] if trained else None,
        "output_dir": str(store.output_dir),
        "checkpoints": str(checkpoints_folder(store.job_folder(job_id))),
    }


def _losses(store: JobStore, job_id: str) -> dict[str, Any]:
    """The result of a job without rollouts."""
    metrics = store.metrics(job_id)
    trained, validated = ([row["loss"] for row in metrics if row["phase"] == phase] for phase in (TRAIN, VALIDATION))
    return {
        "job": job_id,
        "status": store.get_job(job_id).status,
        "steps": len(trained),
        "validation_loss_first": validated[0] if validated else None,
        "validation_loss_last": validated[-1] if validated else None,
        "train_loss_first": trained[0] if trained else None,
        "train_loss_last": trained[-1] if trained else None,
        "output_dir": str(store.output_dir),
        "checkpoints": str(checkpoints_folder(store.job_folder(job_id))),
    }


def _show_losses(result: dict[str, Any], output: Output) -> None:
    job, where = result["job"], folder_option(Path(result["output_dir"]))
    lines = [f"\n[bold]{job}[/] {result['status']}: {result['steps']} steps, checkpoints in {result['checkpoints']}"]
    if result["validation_loss_first"] is not None:
        first, last = result["validation_loss_first"], result["validation_loss_last"]
        lines.append(f"validation loss {first:.3f} at first, {last:.3f} at last")
    lines += [
        "Next:",
        f"  agentrft eval {job} --job JOB.YAML{where}      # JOB.YAML: a job with tools and a grader",
        f"  agentrft export {job} --format merged --out model{where}",
    ]
    output.console.print("\n".join(lines), soft_wrap=True)


def _show(result: dict[str, Any], output: Output) -> None:
    job, where = result["job"], folder_option(Path(result["output_dir"]))
    lines = [f"\n[bold]{job}[/] {result['status']}: {result['steps']} steps, checkpoints in {result['checkpoints']}"]
    if result["best_step"] is not None:
        lines.append(
            f"validation reward {result['validation_reward_first']:.3f} at first, "
            f"{result['validation_reward_last']:.3f} at last, "
            f"best {result['validation_reward_best']:.3f} at step {result['best_step']}"
        )
    if result["test_reward_first"] is not None:
        first, last = result["test_reward_first"], result["test_reward_result"]
        lines.append(f"test reward {first:.3f} as the model began, {last:.3f} of the result")
    lines += [
        "Next:",
        f"  agentrft compare {job}@0 {job}{where}",
        f"  agentrft rollouts {job} --worst 3{where}",
        f"  agentrft export {job} --format merged --out model{where}",
    ]
    output.console.print("\n".join(lines), soft_wrap=True)
