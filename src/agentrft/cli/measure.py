"""`baseline`, `eval` and `compare`: rolling samples out with given weights, and what that says."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrft.cli.errors import CommandFailed
from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.progress import ConsoleProgress
from agentrft.cli.running import run_stoppable
from agentrft.cli.tables import comparison_tables, summary_table
from agentrft.cli.targets import (
    DEFAULT_OUTPUT_DIR,
    OutputDirOption,
    Target,
    check_inputs,
    find_target,
    folder_option,
    is_job_file,
    open_store_if_there,
)
from agentrft.cli.train import new_job, run
from agentrft.data import load_samples
from agentrft.errors import NotTrainableError, UserError
from agentrft.spec import load_job, with_rollouts
from agentrft.store import JobStore

if TYPE_CHECKING:
    from agentrft.job import Evaluation, ModelReference
    from agentrft.spec import JobSpec

BASELINE_FILE = "baseline.parquet"

KOption = Annotated[int, typer.Option("-k", min=1, help="Rollouts per sample.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many samples.")]
JobOption = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="Data, tools and grader: a job's file, or a stored job.")
]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", min=0.0, help="0 is greedy.", show_default="the job's")
]
SPLITS = ("validation", "train", "test")
SplitOption = Annotated[str, typer.Option("--split", help="`validation`, `train` or `test`.")]
# Rollouts of each of two models that are compared, where nothing else is said.
ENOUGH_ROLLOUTS, MOST_PER_SAMPLE = 200, 8


def baseline(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's file, or a stored job: its warm start.")],
    k: KOption = 4,
    limit: LimitOption = None,
    split: SplitOption = "validation",
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Make a job, run its warm start, and measure that.")
    ] = False,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure a task before training: can it be trained, and what to change if not. Exit code 4: it cannot."""
    output = Output(as_json=as_json)
    _check_split(split)
    target = _with_warm_start(Path(job), output_dir, output) if warm_start else find_target(job, output_dir)
    check_inputs(target.spec)
    where = folder_option(target.store.output_dir if target.store else target.spec.output_dir)
    from agentrft.job import resolve_reference
    from agentrft.report import cli_ways, verdict

    reference = resolve_reference(f"{target.job_id}@0" if target.job_id else "base", target.store)
    folder = target.store.job_folder(target.job_id) if target.store and target.job_id else target.spec.output_dir
    rollouts_file = folder / BASELINE_FILE
    measured = _measure(
        target.spec, reference, output, k=k, temperature=None, split=split, limit=limit, write_to=rollouts_file
    )
    judgement = verdict(measured.summary)
    remedy = judgement.remedy_by(cli_ways(has_warm_start=target.spec.warm_start is not None))
    shown = {**asdict(judgement), "remedy": remedy}
    result = {**_as_dict(measured, split), "job": target.job_id, "verdict": shown}
    output.console.print(summary_table({measured.label: measured.summary}))
    output.console.print(f"Read attempts: agentrft rollouts {rollouts_file} --worst 3", soft_wrap=True)
    if target.job_id and target.store and target.store.get_job(target.job_id).status != "succeeded":
        output.console.print(f"Go on from here: agentrft train --resume {target.job_id}{where}", soft_wrap=True)
    if not judgement.trainable:
        error = NotTrainableError(f"not trainable: {judgement.text}", remedy)
        raise CommandFailed(error, result)
    output.emit(result)
    output.console.print(f"[bold]Verdict:[/] {judgement.text} {remedy}", soft_wrap=True)


def evaluate(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="`base`, JOB, JOB@best, JOB@last, JOB@STEP, or an adapter's folder.")
    ],
    job: JobOption = None,
    k: KOption = 1,
    temperature: TemperatureOption = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="The same as --temperature 0.")] = False,
    split: SplitOption = "validation",
    limit: LimitOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the rollouts to this Parquet file.")] = None,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure weights on a job's validation samples."""
    output = Output(as_json=as_json)
    _check_split(split)
    if greedy and temperature is not None:
        raise UserError("--greedy and --temperature exclude each other.", "Give one of them.")
    store, data, (found,) = _resolve([reference], job, output_dir)
    measured = _measure(
        _spec_for(found, store, data),
        found,
        output,
        k=k,
        temperature=0.0 if greedy else temperature,
        split=split,
        limit=limit,
        write_to=out,
    )
    output.emit(_as_dict(measured, split))
    output.console.print(summary_table({measured.label: measured.summary}))


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Weights, named as for `eval`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The weights that should be better.")],
    job: JobOption = None,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, help="Rollouts per sample.", show_default="what gives 200, 2 to 8; greedy 1"),
    ] = None,
    temperature: TemperatureOption = None,
    split: SplitOption = "validation",
    latency_threshold_s: Annotated[
        float | None, typer.Option("--latency-threshold-s", min=0.0, help="Also count slower rollouts.")
    ] = None,
    limit: LimitOption = None,
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare two sets of weights on the same samples, with the same seeds and 95 % intervals."""
    output = Output(as_json=as_json)
    _check_split(split)
    store, data, references = _resolve([a, b], job, output_dir)
    k = k or _enough(data, split, temperature, limit)
    measured = []
    for reference in references:
        output.console.print(f"Measuring {reference.label} ...")
        spec = _spec_for(reference, store, data)
        measured.append(_measure(spec, reference, output, k=k, temperature=temperature, split=split, limit=limit))
    from agentrft.job.evaluation import on_one_footing
    from agentrft.report.compare import compare as compare_rollouts

    before, after = on_one_footing(measured, data)
    comparison = compare_rollouts(
        before.rollouts,
        after.rollouts,
        pass_threshold=data.pass_threshold,
        latency_threshold_s=latency_threshold_s,
        seed=data.seed,
    )
    output.emit(
        {
            "k": k,
            "a": _as_dict(before, split),
            "b": _as_dict(after, split),
            "comparison": comparison.as_dict(),
        }
    )
    for table in comparison_tables(comparison, before.label, after.label):
        output.console.print(table)


def _with_warm_start(job_file: Path, output_dir: Path | None, output: Output) -> Target:
    """A new job, run up to its step 0."""
    if not is_job_file(str(job_file)):
        raise UserError("--warm-start makes a new job: it needs a job's file.", "Leave it out for a stored job.")
    spec = load_job(job_file)
    if output_dir is not None:
        spec = spec.model_copy(update={"output_dir": output_dir.absolute()})
    if spec.warm_start is None:
        raise UserError(f"{job_file}: the job has no warm_start.", "Add `warm_start: {training_file: ...}`.")
    check_inputs(spec)
    store, job_id = new_job(spec, job_file, output)
    run(spec, store, job_id, output, warm_start_only=True)
    return Target(spec, store, job_id)


def _resolve(
    names: Sequence[str], job: str | None, output_dir: Path | None
) -> tuple[JobStore | None, "JobSpec", list["ModelReference"]]:
    """The store, the job that gives data, tools and grader, and the weights that `names` say.

    Without `job` it is the job of the last of the weights that belong to one.
    """
    target = find_target(job, output_dir) if job else None
    store = target.store if target else open_store_if_there(output_dir or DEFAULT_OUTPUT_DIR)
    from agentrft.job import resolve_reference, resume_job

    references = [resolve_reference(name, store) for name in names]
    if target:
        return store, target.spec, references
    job_ids = [reference.job_id for reference in references if reference.job_id is not None]
    if not job_ids or store is None:
        raise UserError(
            f"{' and '.join(names)}: these weights belong to no job, so there are no samples to measure them on.",
            "Add --job with a job's file or a stored job; its data, tools and grader are used.",
        )
    return store, with_rollouts(resume_job(store, job_ids[-1]), job_ids[-1]), references


def _spec_for(reference: "ModelReference", store: JobStore | None, data: "JobSpec") -> "JobSpec":
    from agentrft.job.references import spec_for

    return spec_for(reference, store, data)


def _measure(
    spec: "JobSpec",
    reference: "ModelReference",
    output: Output,
    *,
    k: int,
    temperature: float | None,
    limit: int | None,
    split: str = "validation",
    write_to: Path | None = None,
) -> "Evaluation":
    from agentrft.job import evaluate

    with ConsoleProgress(output.console) as progress:
        return run_stoppable(
            lambda stop: evaluate(
                spec,
                reference,
                rollouts_per_sample=k,
                temperature=temperature,
                progress=progress,
                stop=stop,
                split=split,
                limit=limit,
                write_to=write_to,
            ),
            output,
        )


def _as_dict(measured: "Evaluation", split: str) -> dict[str, Any]:
    return {
        "reference": measured.label,
        "split": split,
        "temperature": measured.temperature,
        "seconds": measured.seconds,
        **measured.summary.as_dict(),
    }


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split.", "Give `validation`, `train` or `test`.")


def _enough(data: "JobSpec", split: str, temperature: float | None, limit: int | None) -> int:
    """Rollouts of each sample, so that what chance does to one of them says little of the model."""
    if temperature == 0:
        return 1
    from agentrft.job.evaluation import split_file

    samples = len(load_samples(split_file(data, split)))
    samples = min(samples, limit or samples)
    return max(2, min(MOST_PER_SAMPLE, -(-ENOUGH_ROLLOUTS // max(1, samples))))
