"""`engines`: what generates beside the engine in a job's own process."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentrft.cli.output import DebugOption, JsonOption, Output

engines = typer.Typer(help="vLLM for jobs whose engine.type is vllm.", no_args_is_help=True)


class EngineName(StrEnum):
    """Engines that can be installed."""

    VLLM = "vllm"


@engines.command("install")
def install_engine(
    name: Annotated[EngineName, typer.Argument(help="The engine.")],
    package: Annotated[str | None, typer.Option("--package", help="As pip takes it, instead of the latest.")] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(
            "--requirements",
            help="Install these pins, and nothing that they require.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Install it into an environment of its own; jobs that name no server start it from there."""
    from agentrft.engine.vllm.installed import PACKAGE, install, installed_command

    output = Output(as_json=as_json)
    folder = install(package or PACKAGE, requirements, output.errors.print)
    output.emit({"engine": name.value, "environment": str(folder), "command": list(installed_command())})
    output.console.print(f"Jobs with `engine: {{type: {name.value}}}` start {' '.join(installed_command())}")


@engines.command("list")
def list_engines(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Say what is installed, and where."""
    from agentrft.engine.vllm.installed import environment, installed_command

    output = Output(as_json=as_json)
    command = installed_command()
    output.emit({"vllm": {"environment": str(environment().resolve()), "command": list(command)} if command else None})
    output.console.print(f"vllm: {environment().resolve() if command else 'not installed'}")
