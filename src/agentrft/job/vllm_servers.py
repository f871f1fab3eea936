"""The vLLM servers of a job: those that are there already, or one that is started for it."""

import os
import socket
from collections.abc import Sequence

import torch

from agentrft.engine.vllm import Client, Server, ServerProcess
from agentrft.engine.vllm.installed import installed_command
from agentrft.engine.vllm.process import server_command, server_environment
from agentrft.errors import UserError
from agentrft.models.catalog import ModelSource
from agentrft.models.load import model_folder
from agentrft.spec import JobSpec, ResolvedHyperparameters
from agentrft.traffic import Notify


def served_as(spec: JobSpec) -> str:
    """What the servers call the job's model."""
    return spec.engine.model or spec.model


def make_servers(
    spec: JobSpec,
    hyperparameters: ResolvedHyperparameters,
    source: ModelSource,
    *,
    dtype: torch.dtype,
    notify: Notify,
) -> Sequence[Server]:
    """The servers of a job whose `engine.type` is vllm. None is started yet.

    Args:
        source: of the job's model.
        dtype: that the policy is trained in.

    Raises:
        UserError: the job names no server, and none was installed.
    """
    engine = spec.engine
    clients = [Client(url, engine.headers) for url in engine.server_urls]
    processes: list[ServerProcess | None] = [None] * len(clients)
    if not clients:
        port = _free_port()
        clients = [Client(f"http://127.0.0.1:{port}", engine.headers)]
        processes = [_process(spec, hyperparameters, source, dtype, port)]
    return [
        Server(client, served_as(spec), process=process, hang_s=engine.hang_timeout_s, notify=notify)
        for client, process in zip(clients, processes, strict=True)
    ]


def _process(
    spec: JobSpec, hyperparameters: ResolvedHyperparameters, source: ModelSource, dtype: torch.dtype, port: int
) -> ServerProcess:
    command = spec.engine.command or installed_command()
    if not command:
        raise UserError(
            "engine: no vLLM server is named, and none was installed.",
            "Give engine.url of one that runs, or engine.command that starts one, or run "
            "`agentrft engines install vllm`.",
        )
    rank = hyperparameters.lora_rank
    words = server_command(
        command,
        model=str(model_folder(source)),
        served_as=served_as(spec),
        port=port,
        context_tokens=hyperparameters.max_context_tokens,
        lora_rank=rank,
        dtype=str(dtype).removeprefix("torch."),
        sleeps=spec.engine.sleep,
    )
    environment = server_environment(lora=rank is not None, sleeps=spec.engine.sleep)
    return ServerProcess(words, environment, spec.output_dir / f"vllm-{os.getpid()}.log")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
