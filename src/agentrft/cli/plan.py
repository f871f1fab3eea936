"""`agentrft plan`: what a job takes before it starts, and what it took beside that."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrft.cli.errors import CommandFailed
from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.overrides import load_job_with
from agentrft.cli.targets import open_store
from agentrft.errors import UserError
from agentrft.spec import JobSpec, with_rollouts

if TYPE_CHECKING:
    from agentrft.planning.assumptions import Given
    from agentrft.planning.model import PlannedModel
    from agentrft.planning.plan import Plan
    from agentrft.planning.prices import PriceTable
    from agentrft.planning.reading import PlannedJob
    from agentrft.planning.splits import Cluster


def plan(
    job_file: Annotated[Path | None, typer.Argument(metavar="JOB.YAML", help="The job's file.")] = None,
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="JOB", help="Compare with what a stored job took: id, prefix or `latest`."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="h100, h200, a100, ...; cpu is this machine.", show_default="this machine"),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=16, help="GPUs of a node, at most.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=16, help="Nodes, at most.")] = 1,
    config: Annotated[
        Path | None, typer.Option("--config", help="The model's config.json, where the model is not here.")
    ] = None,
    prices: Annotated[Path | None, typer.Option("--prices", help="YAML with prices of your own.")] = None,
    prompt_tokens: Annotated[float | None, typer.Option("--prompt-tokens", help="Of a prompt.")] = None,
    turns: Annotated[float | None, typer.Option("--turns", help="Of a rollout.")] = None,
    turn_tokens: Annotated[float | None, typer.Option("--turn-tokens", help="That a turn samples.")] = None,
    result_tokens: Annotated[
        float | None, typer.Option("--result-tokens", help="Of tools' answers after a turn.")
    ] = None,
    tool_s: Annotated[float | None, typer.Option("--tool-s", help="Seconds of a turn's tool calls.")] = None,
    grade_s: Annotated[float | None, typer.Option("--grade-s", help="Seconds of a grade.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Replace a field of the job; repeatable.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="The folder of jobs, for --job.", show_default="./runs")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what a job takes: memory, time and money, and the cheapest way to use GPUs for it. Nothing is downloaded."""
    output = Output(as_json=as_json)
    if (job_file is None) == (job is None):
        raise UserError("give either a job's file or --job JOB.", "`agentrft plan job.yaml --gpu h100 --gpus 8`.")
    if job_file is not None and output_dir is not None:
        raise UserError("--output-dir names the folder of stored jobs.", "Leave it out, or name one with --job.")
    if job is not None and overrides:
        raise UserError("--set cannot change a stored job.", "Leave it out, or name the job's file.")
    if gpu in (None, "cpu") and gpus * nodes > 1:
        raise UserError(
            "--gpus and --nodes count GPUs, and this machine is planned for as it is.", "Name a GPU with --gpu."
        )
    from agentrft.planning.assumptions import Given
    from agentrft.planning.prices import load_prices

    given = Given(prompt_tokens, turns, turn_tokens, result_tokens, tool_s, grade_s)
    table = load_prices(prices)
    if job_file is not None:
        spec = with_rollouts(load_job_with(job_file, list(overrides or [])), str(job_file))
        _plan(_Question(spec, config, _cluster(spec, gpu, gpus, nodes), table, given), output)
        return
    with open_store(output_dir) as store:
        from agentrft.job import resume_job

        row = store.find_job(str(job))
        stored = with_rollouts(resume_job(store, row.job_id), row.job_id)
        question = _Question(stored, config, _cluster(stored, gpu, gpus, nodes), table, given)
        _compare(question, row.job_id, store.metrics(row.job_id), output)


def _cluster(spec: JobSpec, gpu: str | None, gpus: int, nodes: int) -> "Cluster":
    # Loads torch.
    import torch

    from agentrft.models.load import dtype_on
    from agentrft.planning.hardware import gpu_device, this_machine
    from agentrft.planning.splits import Cluster

    if gpu not in (None, "cpu"):
        return Cluster(gpu_device(str(gpu), float32=spec.dtype == "float32"), gpus, nodes)
    here = torch.device("cuda" if torch.cuda.is_available() and gpu is None else "cpu")
    return Cluster(this_machine(here, dtype_on(here, spec.dtype)))


@dataclass(frozen=True)
class _Question:
    """What is to be planned, and where."""

    spec: JobSpec
    config: Path | None
    cluster: "Cluster"
    prices: "PriceTable"
    given: "Given"

    def read(self) -> "tuple[PlannedModel, PlannedJob]":
        """The model, and what the job's files show of its work."""
        import torch

        from agentrft.planning.model import planned_model
        from agentrft.planning.reading import read_job

        rank = self.spec.hyperparameters.lora_rank
        model = planned_model(
            self.spec.model,
            self.config,
            dtype=torch.bfloat16 if self.cluster.device.itemsize == torch.bfloat16.itemsize else torch.float32,
            lora_rank=None if rank == "full" else 16 if rank == "auto" else rank,
            lora_experts=self.spec.hyperparameters.adapts_experts,
        )
        return model, read_job(self.spec, model, self.cluster.device, self.given)

    @property
    def gpu_hour(self) -> float:
        """Its price.

        Raises:
            UserError: there is none.
        """
        name, prices = self.cluster.device.name, self.prices.gpu_hour
        if name not in prices:
            raise UserError(
                f"--prices: there is no price of '{name}'.", f"Add `gpu_hour: {{{name}: 2.50}}` to the file."
            )
        return prices[name]


def _plan(question: _Question, output: Output) -> None:
    from agentrft.cli.plan_tables import show_plan
    from agentrft.planning.plan import make_plan

    model, read = question.read()
    cluster = question.cluster
    types: Any = (question.spec.engine.type,) if cluster.device.measured else ("embedded", "vllm")
    found = make_plan(model, read, cluster, question.prices, types=types, gpu_hour=question.gpu_hour)
    show_plan(found, output.console)
    if found.best is None:
        raise CommandFailed(_does_not_fit(found), found.as_dict())
    output.emit(found.as_dict())


def _does_not_fit(found: "Plan") -> UserError:
    """What lacks least, and what to change."""
    nearest = found.nearest
    faults = [fault for device in nearest.memory for fault in device.faults]
    where = f"{found.cluster.gpus} x {found.cluster.device.name}" if found.cluster.gpus > 1 else "it"
    causes = "; ".join(cause for cause, _ in faults)
    remedies = list(dict.fromkeys(remedy for _, remedy in faults))
    return UserError(
        f"the job does not fit on {where}, whichever way it is split. Nearest is {nearest.split.text}: {causes}.",
        " ".join(remedies),
    )


def _compare(question: _Question, job_id: str, metrics: list[dict[str, Any]], output: Output) -> None:
    from agentrft.cli.plan_tables import show_comparison
    from agentrft.planning.against import compared, train_rows
    from agentrft.planning.job_fields import split_of

    rows, cluster = train_rows(metrics, job_id), question.cluster
    model, read = question.read()
    split = split_of(question.spec.engine, question.spec.cluster, cluster.device)
    found = compared(model, read.work, cluster, split, rows, gpu_hour=question.gpu_hour)
    output.emit(
        {
            "job": job_id,
            "device": cluster.device.name,
            "steps": len(rows),
            **read.notes.as_dict(),
            **{name: one.as_dict() for name, one in found.items()},
        }
    )
    show_comparison(job_id, len(rows), cluster.device.name, found, output.console)
