"""The `agentrft` command: what commands there are. `import torch` takes seconds, so nothing here may need it."""

from typing import Annotated

import typer

from agentrft import __version__
from agentrft.cli.check import check
from agentrft.cli.dashboard import dashboard
from agentrft.cli.engines import engines
from agentrft.cli.errors import Commands
from agentrft.cli.export import export
from agentrft.cli.grade import grade
from agentrft.cli.init import init
from agentrft.cli.inspecting import inspect
from agentrft.cli.listing import events, jobs, models
from agentrft.cli.measure import baseline, compare, evaluate
from agentrft.cli.plan import plan
from agentrft.cli.report import report
from agentrft.cli.rollouts import rollouts
from agentrft.cli.serve import add_model, keys, serve
from agentrft.cli.train import train
from agentrft.cli.watch import watch

app = typer.Typer(
    cls=Commands,
    name="agentrft",
    help="Agent reinforcement fine-tuning of open-weight models on your own tools and grader.",
    epilog="Exit codes: 0 done, 2 something you wrote, 3 an endpoint, 4 not trainable, 5 the job failed, "
    "6 paused by an alarm, 130 interrupted.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _main(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    if version:
        typer.echo(f"agentrft {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("init")(init)
app.command("check")(check)
app.command("plan")(plan)
app.command("train")(train)
app.command("baseline")(baseline)
app.command("eval")(evaluate)
app.command("compare")(compare)
app.command("rollouts")(rollouts)
app.command("grade")(grade)
app.command("dashboard")(dashboard)
app.command("watch")(watch)
app.command("report")(report)
app.command("export")(export)
app.command("serve")(serve)
app.add_typer(keys, name="keys")
app.add_typer(engines, name="engines")
named_models = typer.Typer(invoke_without_command=True)
named_models.callback()(models)
named_models.command("add")(add_model)
named_models.command("inspect")(inspect)
app.add_typer(named_models, name="models")
app.command("jobs")(jobs)
app.command("events")(events)
