"""The vLLM servers of a job: those that are there already, one that is started beside it, or some in a cluster."""

import os
import secrets
from collections.abc import Sequence

import torch

from agentrft.cluster import OwnGpus, RayCluster
from agentrft.cluster.engines import EngineSetup, RayHost, Shipments
from agentrft.engine.vllm import Client, Host, LocalHost, Server, ServerProcess
from agentrft.engine.vllm.installed import installed_command
from agentrft.engine.vllm.process import LOOPBACK, free_port, server_command, server_environment
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
    device: torch.device,
    notify: Notify,
) -> Sequence[Server]:
    """The servers of a job whose `engine.type` is vllm. None is started yet.

    Args:
        source: of the job's model.
        dtype: that the policy is trained in.
        device: that it is trained on.

    Raises:
        UserError: the job names no server, and none was installed; or Ray is not installed, where it wants some in a
            cluster.
    """
    if spec.cluster.engines:
        return _in_cluster(spec, hyperparameters, source, dtype=dtype, device=device, notify=notify)
    engine, clients = spec.engine, [Client(url, spec.engine.headers) for url in spec.engine.server_urls]
    hosts: Sequence[Host | None] = [None] * len(clients)
    if not clients:
        clients, hosts = [Client("", engine.headers)], [_here(spec, hyperparameters, source, dtype)]
    return [_server(spec, client, host, notify) for client, host in zip(clients, hosts, strict=True)]


def _server(spec: JobSpec, client: Client, host: Host | None, notify: Notify) -> Server:
    return Server(client, served_as(spec), host=host, hang_s=spec.engine.hang_timeout_s, notify=notify)


def _in_cluster(
    spec: JobSpec,
    hyperparameters: ResolvedHyperparameters,
    source: ModelSource,
    *,
    dtype: torch.dtype,
    device: torch.device,
    notify: Notify,
) -> list[Server]:
    cluster, headers = spec.cluster, spec.engine.headers
    environment: dict[str, str] = {}
    if not any(name.lower() == "authorization" for name in headers):
        # They listen where other machines reach them.
        key = secrets.token_urlsafe(24)
        headers, environment = {**headers, "Authorization": f"Bearer {key}"}, {"VLLM_API_KEY": key}
    setup = EngineSetup(
        command=spec.engine.command,
        source=source,
        served_as=served_as(spec),
        context_tokens=hyperparameters.max_context_tokens,
        lora_rank=hyperparameters.lora_rank,
        dtype=_name(dtype),
        environment=environment,
    )
    own = 0 if device.type != "cuda" else 1 if cluster.spread_learner else cluster.learner_workers
    shipments, servers = Shipments(), list[Server]()
    for _ in range(cluster.engines):
        host = RayHost(
            RayCluster(cluster.address, cluster.actors_of_a_core, wanted_by="cluster.engines"),
            setup,
            shipments,
            gpus=cluster.gpus_per_engine,
            own_gpus=OwnGpus(own) if own and cluster.gpus_per_engine else None,
        )
        servers.append(_server(spec, Client("", headers, files=host), host, notify))
    return servers


def _here(
    spec: JobSpec, hyperparameters: ResolvedHyperparameters, source: ModelSource, dtype: torch.dtype
) -> LocalHost:
    command = spec.engine.command or installed_command()
    if not command:
        raise UserError(
            "engine: no vLLM server is named, and none was installed.",
            "Give engine.url of one that runs, or engine.command that starts one, or run "
            "`agentrft engines install vllm`.",
        )
    rank, port = hyperparameters.lora_rank, free_port(LOOPBACK)
    words = server_command(
        command,
        model=str(model_folder(source)),
        served_as=served_as(spec),
        port=port,
        context_tokens=hyperparameters.max_context_tokens,
        lora_rank=rank,
        dtype=_name(dtype),
        sleeps=spec.engine.sleep,
    )
    environment = server_environment(lora=rank is not None, sleeps=spec.engine.sleep)
    process = ServerProcess(words, environment, spec.output_dir / f"vllm-{os.getpid()}.log")
    return LocalHost(process, f"http://{LOOPBACK}:{port}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
