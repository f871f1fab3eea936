"""What a job of reinforcement computes with: the policy, the engine that samples from it, how the one's weights reach
the other, and which processes train them."""

import asyncio
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, Unpack

import torch
from transformers import PreTrainedModel

from agentrft.cluster import InCluster, RankedLearner, Ranks, RankSetup
from agentrft.engine import Engine, EngineFailure
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.limits import EngineLimits
from agentrft.engine.vllm import VllmEngine
from agentrft.errors import JobFailedError, UserError
from agentrft.job.checkpoint import save_weights
from agentrft.job.memory_budget import cache_for, kv_cache_bytes, least_at_once
from agentrft.job.vllm_servers import make_servers, served_as
from agentrft.learner import Learner, Policy, UpdateOptions
from agentrft.learner.optimizer import Optimizing
from agentrft.learner.ranks.collective import Alone
from agentrft.models.catalog import ModelSource
from agentrft.models.forward import Forward
from agentrft.spec import JobSpec, ResolvedHyperparameters
from agentrft.store.layout import ADAPTER, MODEL
from agentrft.traffic import Notify


class LearnerSettings(Optimizing):
    """The arguments of a `Learner`, its policy aside."""

    algorithm: str
    temperature: float
    options: UpdateOptions


class WeightPublisher(Protocol):
    """How a policy version reaches the engine."""

    async def publish(self) -> None:
        """Make the engine sample from the policy as it is now. No session may be open."""
        ...

    def close(self) -> None:
        """Give back what it took."""
        ...


@dataclass(frozen=True)
class Backend:
    """They, put together for a job's `engine.type` and `cluster`.

    Attributes:
        ranks: of the learner; None where this process is the only one.
    """

    policy: Policy
    engine: Engine
    publisher: WeightPublisher
    ranks: Ranks | None = None

    def new_learner(self, **settings: Unpack[LearnerSettings]) -> Learner:
        """On the policy, with a fresh optimizer."""
        if self.ranks is None:
            return Learner(self.policy, **settings)
        return RankedLearner(self.policy, self.ranks, **settings)

    def close(self) -> None:
        """Give back what the publisher took, and end the ranks."""
        self.publisher.close()
        if self.ranks is not None:
            self.ranks.close()


class InProcess:
    """The engine reads the policy's own weights, or has them written into its copy."""

    def __init__(self, engine: EmbeddedEngine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy

    async def publish(self) -> None:
        """See `WeightPublisher`."""
        await self._engine.update_weights(self._policy.write_to, self._policy.version)

    def close(self) -> None:
        """Nothing: see `WeightPublisher`."""


class WeightFiles:
    """The engine's servers load each version from a folder that they can read: its adapter, or all weights.

    Args:
        folder: where these are written; None for the system's own place for what is temporary.
        executor: what computes with the policy.
    """

    def __init__(self, engine: VllmEngine, policy: Policy, folder: Path | None, executor: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._policy = policy
        self._executor = executor
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="agentrft-weights-", dir=folder)).absolute()
        # Servers often run as another user.
        self._folder.chmod(0o755)
        # Of the newest version, and of the one before: turns that began with it may be under way.
        self._kept: list[Path] = []

    async def publish(self) -> None:
        """See `WeightPublisher`."""
        version = self._policy.version
        folder = self._folder / f"v{version}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        await asyncio.get_running_loop().run_in_executor(self._executor, save_weights, folder, self._policy)
        try:
            if self._policy.lora_rank is not None:
                await self._engine.use_adapter(folder / ADAPTER, version)
            else:
                await self._engine.use_weights(folder / MODEL, version)
        except EngineFailure as error:
            raise JobFailedError(
                f"version {version} of the policy does not reach its engine: {error}",
                "Mend the server, and resume the job; docs/engines.md has how it is to be started.",
            ) from error
        self._kept = [*(kept for kept in self._kept if kept != folder), folder]
        while len(self._kept) > 2:
            shutil.rmtree(self._kept.pop(0), ignore_errors=True)

    def close(self) -> None:
        """See `WeightPublisher`."""
        shutil.rmtree(self._folder, ignore_errors=True)


def make_ranks(
    spec: JobSpec,
    hyperparameters: ResolvedHyperparameters,
    source: ModelSource,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Ranks | None:
    """The learner's, of which none is started; None where the job wants a single one.

    Args:
        device: of the first.

    Raises:
        UserError: there are fewer GPUs.
    """
    size = spec.cluster.learner_workers
    if size == 1:
        return None
    on_gpus, cluster = device.type == "cuda", spec.cluster
    if on_gpus and not cluster.spread_learner and size > torch.cuda.device_count():
        raise UserError(
            f"cluster.learner_workers: {size} ranks need {size} GPUs; this machine has {torch.cuda.device_count()}.",
            "Lower it to as many as there are, or let the ranks run in a cluster: cluster.spread_learner.",
        )
    setup = RankSetup(
        size=size,
        source=source,
        dtype=dtype,
        on_gpus=on_gpus,
        lora_rank=hyperparameters.lora_rank,
        lora_experts=hyperparameters.lora_experts,
        seed=spec.seed,
        deterministic=spec.deterministic,
        threads=torch.get_num_threads() if cluster.spread_learner else max(1, torch.get_num_threads() // size),
        timeout_s=cluster.rank_timeout_s,
        shards_base=cluster.shard_base,
        sees_own_gpu=cluster.spread_learner,
    )
    return Ranks(setup, InCluster(cluster.address, on_gpus=on_gpus) if cluster.spread_learner else None)


def make_backend(
    spec: JobSpec,
    hyperparameters: ResolvedHyperparameters,
    model: PreTrainedModel,
    *,
    source: ModelSource,
    device: torch.device,
    engine_device: torch.device,
    executor: ThreadPoolExecutor,
    notify: Notify,
    ranks: Ranks | None = None,
) -> Backend:
    """For the job's `engine.type`.

    Args:
        model: on its device, or where it will be trained in shards on the CPU, with planned attention.
        source: where its files are.
        device: of the policy.
        engine_device: of an engine in this process.
        executor: the one thread that computes.
        notify: told what whoever runs the job should know of the engine.
        ranks: of the learner.

    Raises:
        UserError: the engine that the job names is not there.
        JobFailedError: ranks that are needed for the policy did not start.
    """
    make_policy = partial(_policy, spec, hyperparameters, model, ranks)
    if spec.engine.type == "vllm":
        policy = make_policy(generates=False)
        served = VllmEngine(
            make_servers(spec, hyperparameters, source, dtype=model.dtype, device=device, notify=notify),
            served_as(spec),
            max_sequences=spec.engine.max_concurrent_rollouts,
            sleeps=spec.engine.sleep,
        )
        return Backend(policy, served, WeightFiles(served, policy, spec.engine.adapters, executor), ranks)
    apart = engine_device != device or hyperparameters.max_off_policy_steps > 0
    policy = make_policy(engine_device=engine_device if apart else None)
    engine = EmbeddedEngine(
        policy.engine_forward,
        _limits(spec, hyperparameters, policy.engine_forward, engine_device),
        deterministic=spec.deterministic,
        executor=None if apart else executor,
        warn=partial(notify, "warning"),
    )
    return Backend(policy, engine, InProcess(engine, policy), ranks)


def _policy(
    spec: JobSpec,
    hyperparameters: ResolvedHyperparameters,
    model: PreTrainedModel,
    ranks: Ranks | None,
    *,
    engine_device: torch.device | None = None,
    generates: bool = True,
) -> Policy:
    if ranks is None:
        return Policy(
            model,
            lora_rank=hyperparameters.lora_rank,
            lora_experts=hyperparameters.lora_experts,
            seed=spec.seed,
            engine_device=engine_device,
            generates=generates,
        )
    # Others start with the first learner, since not every job comes to have one.
    collective = ranks.start() if ranks.setup.is_sharded else Alone()
    policy = ranks.setup.policy_of(model, 0, collective, generates=generates, engine_device=engine_device)
    policy.followers = ranks
    return policy


def _limits(
    spec: JobSpec, hyperparameters: ResolvedHyperparameters, forward: Forward, device: torch.device
) -> EngineLimits:
    engine, context, least = spec.engine, hyperparameters.max_context_tokens, least_at_once(spec)
    size = cache_for(
        forward.cache_shapes,
        budget=kv_cache_bytes(spec, device),
        max_tokens=context,
        itemsize=forward.dtype.itemsize,
        least=least,
        wanted=max(engine.max_concurrent_rollouts, least),
        # Pages are never taken from a sequence then, which would happen sooner or later as tools answer.
        in_full=spec.deterministic,
    )
    return EngineLimits(
        max_context_tokens=context,
        max_sequences=size.sequences,
        max_batch_size=engine.max_batch_size,
        prefill_tokens_per_step=engine.prefill_tokens_per_step,
        cache_pages=size.pages,
        cuda_graphs=engine.cuda_graphs,
    )
