"""What the arguments of commands name: a job's file, a stored job, or a folder of runs."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentrft.data import each_demonstration, each_preference, load_demonstrations, load_samples
from agentrft.errors import UserError
from agentrft.sinks.requirements import check_requirements
from agentrft.spec import AnyJobSpec, JobSpec, TuningSpec, load_job, with_rollouts
from agentrft.store import JobStore

DEFAULT_OUTPUT_DIR = Path("runs")
JOB_NAME = re.compile(r"[A-Za-z0-9-]+")

StoredJobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id, prefix or `latest`.")]
OutputDirOption = Annotated[
    Path | None, typer.Option("--output-dir", help="The folder of jobs.", show_default="the job file's, else ./runs")
]


@dataclass(frozen=True)
class Target:
    """A job to measure with. `store` is None where its folder has no jobs yet, `job_id` where it was named by file."""

    spec: JobSpec
    store: JobStore | None
    job_id: str | None = None


def find_target(name: str, output_dir: Path | None) -> Target:
    """A job from `job.yaml`, or a stored one by its id, a prefix of it, or `latest`.

    Raises:
        UserError: there is no such file or job, or it is not valid.
    """
    if is_job_file(name):
        spec = load_job(Path(name))
        return Target(spec, open_store_if_there(output_dir or spec.output_dir))
    store = open_store(output_dir)
    from agentrft.job import resume_job

    job = store.find_job(name)
    return Target(with_rollouts(resume_job(store, job.job_id), job.job_id), store, job.job_id)


def is_job_file(name: str) -> bool:
    path = Path(name)
    return path.suffix in (".yaml", ".yml") or path.is_file() or not JOB_NAME.fullmatch(name)


def open_store(output_dir: Path | None) -> JobStore:
    """The jobs of a folder.

    Raises:
        UserError: there are none.
    """
    folder = output_dir or DEFAULT_OUTPUT_DIR
    if not (folder / "agentrft.db").is_file():
        raise UserError(
            f"{folder}: there are no jobs.",
            "Start one with `agentrft train job.yaml`, or name the folder: --output-dir.",
        )
    return JobStore(folder, create=False)


def open_store_if_there(folder: Path) -> JobStore | None:
    return JobStore(folder, create=False) if (folder / "agentrft.db").is_file() else None


def check_inputs(spec: AnyJobSpec) -> None:
    """What can be found wrong in a moment: before torch is imported, and before a job is made of it.

    Raises:
        UserError: an integration, a data file, the grader, the model's name, or what is asked of the model.
        EndpointError: nothing is there where a tool, a hook or a grader should be.
    """
    from agentrft.job.model_files import check_model_files

    for integration in spec.integrations:
        check_requirements(integration)
    if isinstance(spec, JobSpec):
        _check_samples(spec)
    else:
        _check_examples(spec)
    check_model_files(spec)
    if isinstance(spec, JobSpec):
        asyncio.run(_probe(spec))


def _check_examples(spec: TuningSpec) -> None:
    from agentrft.tools import call_judge

    judge = call_judge()
    for path in spec.data_files.values():
        for _ in each_preference(path, judge) if spec.method == "dpo" else each_demonstration(path, judge):
            pass


def _check_samples(spec: JobSpec) -> None:
    from agentrft.graders import check_templates
    from agentrft.tools import call_judge, declared_tools

    judge = call_judge(declared_tools(spec.tools))
    samples = load_samples(spec.training_file, judge)
    for path in filter(None, (spec.validation_file, spec.test_file)):
        samples += load_samples(path, judge)
    for path in (spec.warm_start.files if spec.warm_start else {}).values():
        load_demonstrations(path, judge)
    for grader in (spec.grader, *spec.holdout_graders.values()):
        check_templates(grader, samples)


async def _probe(spec: JobSpec) -> None:
    from agentrft.graders import create_grader
    from agentrft.tools import create_toolbox

    graders = [create_grader(grader) for grader in (spec.grader, *spec.holdout_graders.values())]
    toolbox = create_toolbox(spec.tools, on_rollout_start=spec.on_rollout_start, on_rollout_end=spec.on_rollout_end)
    try:
        # Tools are called once, by the job itself.
        await toolbox.probe()
        for grader in graders:
            await grader.probe()
    finally:
        for grader in graders:
            await grader.close()
        await toolbox.close()


def folder_option(output_dir: Path) -> str:
    """What to add to a command so that it finds the jobs of a folder from here."""
    if output_dir.absolute() == DEFAULT_OUTPUT_DIR.absolute():
        return ""
    here = Path.cwd()
    absolute = output_dir.absolute()
    return f" --output-dir {absolute.relative_to(here) if absolute.is_relative_to(here) else absolute}"
