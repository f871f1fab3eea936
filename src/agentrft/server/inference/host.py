"""The models in memory: base models with adapters that are computed on them, and models with weights of their own."""

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, Protocol, TypeVar

from safetensors import SafetensorError

from agentrft.engine import EngineFailure, Session
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.kv_cache import cache_within
from agentrft.engine.limits import EngineLimits
from agentrft.errors import UserError
from agentrft.models.lora import LoraAdapter
from agentrft.models.memory import device_memory
from agentrft.models.packed import PackedModel
from agentrft.server.inference.adapters import load_adapter
from agentrft.server.inference.errors import ApiError
from agentrft.server.inference.model_cache import ModelCache
from agentrft.server.inference.token_texts import TokenTexts
from agentrft.server.inference.vllm_models import VllmModels
from agentrft.server.inference.weights import LoadedModel, ModelTexts, Weights, load_weights, shares_base
from agentrft.server.vllm_places import VllmPlace

logger = logging.getLogger(__name__)

# Of the device's memory, for the KV caches of all models together.
KV_CACHE_SHARE = 1 / 4
SLICE_TOKENS = 8

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class HostLimits:
    """Bounds of what is in memory, and of how long a request waits.

    Attributes:
        max_models: that have weights of their own: base models, and fine-tuned ones that are no adapter on a base.
        max_adapters: on each base model.
        max_sequences: turns that one model generates at once, with all its adapters; more wait.
        max_requests: requests that one fine-tuned or base model has at once, waiting ones included; more are refused.
        load_timeout_s: for a place in memory and for loading.
        turn_timeout_s: for one turn, with its wait for the engine.
    """

    max_models: int = 4
    max_adapters: int = 32
    max_sequences: int = 64
    max_requests: int = 256
    load_timeout_s: float = 300.0
    turn_timeout_s: float = 600.0


class Answering(Protocol):
    """What samples a request's answer.

    Attributes:
        slice_tokens: how many to sample before the answer is looked at again.
        seeded: whether the same seed gives the same answer.
    """

    @property
    def loaded(self) -> ModelTexts: ...

    @property
    def token_texts(self) -> TokenTexts: ...

    @property
    def slice_tokens(self) -> int: ...

    @property
    def seeded(self) -> bool: ...

    async def open(self) -> Session:
        """Wait for a place in the engine, and take it."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """A loaded model with its engine, and the adapter that answers on top of it; None where the model itself does."""

    loaded: LoadedModel
    engine: EmbeddedEngine
    token_texts: TokenTexts
    adapter: LoraAdapter | None = None
    slice_tokens: int = SLICE_TOKENS
    seeded: bool = True

    async def open(self) -> Session:
        """See `EmbeddedEngine.open`."""
        return await self.engine.open(self.adapter)


@dataclass(frozen=True)
class _HostedModel:
    """What has weights of its own, and the adapters on it."""

    served: ServedModel
    adapters: ModelCache[LoraAdapter]


class ModelHost:
    """Keeps models loaded, and lends them to requests.

    Fine-tuned models that are LoRA adapters share one copy of their base, its engine and its passes; each costs the
    memory of its adapter. Where `PackedModel` does not compute the architecture, and where all weights were trained,
    a fine-tuned model is a copy of its own. All models compute in one thread, in turns. They are loaded in another, so
    that those in memory keep answering.

    Args:
        load: reads weights that are a model of their own; replaced in tests.
        servers: base models that vLLM servers answer with, and the adapters on them, instead of this process.
        server_headers: sent to these with every request.
        server_seeds: whether these are asked with the seeds of requests; see `engine.vllm.Server`.
    """

    def __init__(
        self,
        limits: HostLimits | None = None,
        *,
        load: Callable[[Weights], LoadedModel] = load_weights,
        servers: Mapping[str, VllmPlace] | None = None,
        server_headers: Mapping[str, str] | None = None,
        server_seeds: bool = False,
    ) -> None:
        self.limits = limits or HostLimits()
        self._load_weights = load
        self._models = ModelCache[_HostedModel]("models", self.limits.max_models, self.limits.max_requests, _close)
        self.at_servers = VllmModels(
            servers or {},
            server_headers or {},
            max_adapters=self.limits.max_adapters,
            max_sequences=self.limits.max_sequences,
            max_requests=self.limits.max_requests,
            seeded=server_seeds,
        )
        self._shares_base: dict[str, bool] = {}
        self._requests: Counter[tuple[Any, ...]] = Counter()
        self._compute = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrft-compute")
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrft-load")

    @property
    def in_memory(self) -> list[tuple[str, list[str]]]:
        """Names of the models that have weights of their own, each with its adapters', least recently used first."""
        return [(name, [own for own, _ in model.adapters.loaded]) for name, model in self._models.loaded]

    @asynccontextmanager
    async def lease(self, weights: Weights) -> AsyncIterator[Answering]:
        """The model of these weights, which stays in memory meanwhile.

        Raises:
            ApiError: it cannot be loaded, or its place or loading took longer than `load_timeout_s`.
        """
        with self._admitted(weights), ExitStack() as leases:
            try:
                async with asyncio.timeout(self.limits.load_timeout_s):
                    model = await self._take(weights, leases)
            except TimeoutError as error:
                message = f"{weights.name} was not in memory within {self.limits.load_timeout_s:.0f} s."
                raise ApiError(503, message, code="model_not_ready", retry=True) from error
            yield model

    async def close(self) -> None:
        """Stop all engines; who still waits for a turn gets an error."""
        await self._models.close()
        await self.at_servers.close()
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._compute.shutdown(wait=False)

    @contextmanager
    def _admitted(self, weights: Weights) -> Iterator[None]:
        count = self._requests[weights.key]
        if count >= self.limits.max_requests:
            raise ApiError(503, f"{weights.name} has {count} requests already.", code="overloaded", retry=True)
        self._requests[weights.key] += 1
        try:
            yield
        finally:
            self._requests[weights.key] -= 1
            if not self._requests[weights.key]:
                del self._requests[weights.key]

    async def _take(self, weights: Weights, leases: ExitStack) -> Answering:
        with _as_api_errors(weights.name):
            folder = weights.adapter_folder()
            is_served = self.at_servers.serves(weights)
        if is_served:
            return await self.at_servers.take(weights, leases, functools.partial(self._in_loader, weights.name))
        if folder is None or not await self._on_its_base(weights):
            return (await self._take_model(weights, leases)).served
        base = await self._take_model(weights.of_base, leases)
        forward = base.served.loaded.forward
        if not isinstance(forward, PackedModel):
            raise RuntimeError(f"{weights.base}: the architecture is supported, but its model is not packed")
        entry = await base.adapters.take(
            folder, weights.name, lambda: self._in_loader(weights.name, load_adapter, folder, forward), leases
        )
        return replace(base.served, adapter=entry.loading.result())

    async def _take_model(self, weights: Weights, leases: ExitStack) -> _HostedModel:
        entry = await self._models.take(
            weights.key, weights.name, lambda: self._in_loader(weights.name, self._prepare, weights), leases
        )
        # Entered after the lease, so that it sees what the request fails with.
        leases.push(lambda _, error, __: self._models.forget(entry) if _is_broken(error) else None)
        return entry.loading.result()

    async def _on_its_base(self, weights: Weights) -> bool:
        """Whether the adapter shares its base with others. Found out once for each base model."""
        if weights.base not in self._shares_base:
            self._shares_base[weights.base] = await self._in_loader(weights.name, shares_base, weights.base)
        return self._shares_base[weights.base]

    async def _in_loader(self, name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with _as_api_errors(name):
            return await asyncio.get_running_loop().run_in_executor(self._loader, lambda: function(*args, **kwargs))

    def _prepare(self, weights: Weights) -> _HostedModel:
        loaded = self._load_weights(weights)
        forward, context = loaded.forward, loaded.max_context_tokens
        budget = int(KV_CACHE_SHARE * device_memory(forward.device)) // self.limits.max_models
        size = cache_within(
            forward.cache_shapes,
            budget=budget,
            max_tokens=context,
            itemsize=forward.dtype.itemsize,
            wanted=self.limits.max_sequences,
        )
        if not size.sequences:
            raise UserError(f"a context of {context} tokens takes too much memory.", "Lower its max_context_tokens.")
        limits = EngineLimits(context, max_sequences=size.sequences, cache_pages=size.pages)
        engine = EmbeddedEngine(forward, limits, executor=self._compute)
        adapters = ModelCache[LoraAdapter]("adapters", self.limits.max_adapters, self.limits.max_requests, _drop)
        return _HostedModel(ServedModel(loaded, engine, TokenTexts(loaded.tokenizer)), adapters)


@contextmanager
def _as_api_errors(name: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        message = f"{name} cannot be loaded: {error.cause} {error.remedy}"
        raise ApiError(500, message, code="model_not_loadable") from error
    except (OSError, RuntimeError, ValueError, KeyError, MemoryError, SafetensorError) as error:
        logger.exception("%s cannot be loaded", name)
        message = f"{name} cannot be loaded: {type(error).__name__}: {error}"
        raise ApiError(500, message, code="model_not_loadable") from error


def _is_broken(error: BaseException | None) -> bool:
    return isinstance(error, EngineFailure) and error.kind == "broken"


async def _close(model: _HostedModel) -> None:
    await model.adapters.close()
    await model.served.engine.close()


async def _drop(_: LoraAdapter) -> None:
    """Its memory is free when the last session of it is closed."""
