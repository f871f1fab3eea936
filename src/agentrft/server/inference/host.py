"""The models in memory: loaded when first asked for, the least recently used one given up for another."""

import asyncio
import functools
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError

from agentrft.engine import EmbeddedEngine, EngineFailure, EngineLimits, bytes_per_slot
from agentrft.errors import UserError
from agentrft.models.memory import device_memory
from agentrft.server.inference.errors import ApiError
from agentrft.server.inference.token_texts import TokenTexts
from agentrft.server.inference.weights import LoadedModel, Weights, load_weights

logger = logging.getLogger(__name__)

# Of the device's memory, for the KV caches of all models together.
KV_CACHE_SHARE = 1 / 4


@dataclass(frozen=True)
class HostLimits:
    """Bounds of what is in memory, and of how long a request waits.

    Attributes:
        max_sequences: turns that one model generates at once; more wait.
        max_requests: requests that one model has at once, waiting ones included; more are refused.
        load_timeout_s: for a place in memory and for loading.
        turn_timeout_s: for one turn, with its wait for the engine.
    """

    max_models: int = 4
    max_sequences: int = 16
    max_requests: int = 256
    load_timeout_s: float = 300.0
    turn_timeout_s: float = 600.0


@dataclass(frozen=True)
class ServedModel:
    """A loaded model with its engine."""

    loaded: LoadedModel
    engine: EmbeddedEngine
    token_texts: TokenTexts


@dataclass
class _Entry:
    """`last_used` numbers the leases of the host; those that are `leased` are not given up."""

    weights: Weights
    loading: "asyncio.Task[ServedModel]"
    leased: int = 0
    last_used: int = 0

    @property
    def idle(self) -> bool:
        return self.leased == 0 and self.loading.done()


class ModelHost:
    """Keeps models loaded, and lends them to requests.

    Each model has weights of its own in memory, with its adapter merged: no adapter costs anything in a pass, and each
    fine-tuned model costs as much memory as its base, plus a KV cache. All models compute in one thread, in turns.
    They are loaded in another, so that those in memory keep answering.

    Args:
        load: reads weights; replaced in tests.
    """

    def __init__(
        self, limits: HostLimits | None = None, *, load: Callable[[Weights], LoadedModel] = load_weights
    ) -> None:
        self.limits = limits or HostLimits()
        self._load_weights = load
        self._entries: dict[tuple[Any, ...], _Entry] = {}
        self._waiting = 0
        self._released = asyncio.Event()
        self._leases = itertools.count(1)
        self._compute = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrft-compute")
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrft-load")

    @property
    def names(self) -> list[str]:
        """Names of the models in memory, the least recently used first."""
        return [entry.weights.name for entry in sorted(self._entries.values(), key=lambda entry: entry.last_used)]

    @asynccontextmanager
    async def lease(self, weights: Weights) -> AsyncIterator[ServedModel]:
        """The model of these weights, which stays in memory meanwhile.

        Raises:
            ApiError: it cannot be loaded, or its place or loading took longer than `load_timeout_s`.
        """
        entry = await self._take(weights)
        try:
            yield entry.loading.result()
        except EngineFailure as failure:
            if failure.kind == "broken":
                self._forget(entry)
            raise
        finally:
            self._give_back(entry)

    async def close(self) -> None:
        """Stop all engines; who still waits for a turn gets an error."""
        entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            await _close(entry)
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._compute.shutdown(wait=False)

    async def _take(self, weights: Weights) -> _Entry:
        try:
            async with asyncio.timeout(self.limits.load_timeout_s):
                entry = await self._place(weights)
                entry.leased += 1
                try:
                    # Shielded: others may wait for the same model.
                    await asyncio.shield(entry.loading)
                except BaseException:
                    self._give_back(entry)
                    raise
                return entry
        except TimeoutError as error:
            message = f"{weights.name} was not in memory within {self.limits.load_timeout_s:.0f} s."
            raise ApiError(503, message, code="model_not_ready", retry=True) from error

    async def _place(self, weights: Weights) -> _Entry:
        """The entry of these weights; a new one as soon as there is a place for it."""
        while True:
            entry = self._entries.get(weights.key)
            if entry is not None:
                if entry.leased >= self.limits.max_requests:
                    message = f"{weights.name} has {entry.leased} requests already."
                    raise ApiError(503, message, code="overloaded", retry=True)
                return entry
            if len(self._entries) < self.limits.max_models:
                loading = asyncio.create_task(self._load(weights), name="agentrft-load")
                entry = self._entries[weights.key] = _Entry(weights, loading, last_used=next(self._leases))
                loading.add_done_callback(functools.partial(self._on_loaded, entry))
                return entry
            idle = [entry for entry in self._entries.values() if entry.idle]
            if idle:
                evicted = min(idle, key=lambda entry: entry.last_used)
                logger.info("%s is given up for %s", evicted.weights.name, weights.name)
                self._forget(evicted)
                await _close(evicted)
            else:
                await self._wait_for_release()

    async def _wait_for_release(self) -> None:
        if self._waiting >= self.limits.max_requests:
            message = f"All {self.limits.max_models} models in memory are in use, and {self._waiting} requests wait."
            raise ApiError(503, message, code="overloaded", retry=True)
        self._waiting += 1
        self._released.clear()
        try:
            await self._released.wait()
        finally:
            self._waiting -= 1

    async def _load(self, weights: Weights) -> ServedModel:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._loader, self._prepare, weights)
        except UserError as error:
            message = f"{weights.name} cannot be loaded: {error.cause} {error.remedy}"
            raise ApiError(500, message, code="model_not_loadable") from error
        except (OSError, RuntimeError, ValueError, KeyError, MemoryError, SafetensorError) as error:
            logger.exception("%s cannot be loaded", weights.name)
            message = f"{weights.name} cannot be loaded: {type(error).__name__}: {error}"
            raise ApiError(500, message, code="model_not_loadable") from error

    def _prepare(self, weights: Weights) -> ServedModel:
        loaded = self._load_weights(weights)
        forward, context = loaded.forward, loaded.max_context_tokens
        budget = int(KV_CACHE_SHARE * device_memory(forward.device)) // self.limits.max_models
        fitting = budget // bytes_per_slot(forward.config, context, forward.dtype.itemsize)
        if fitting < 1:
            raise UserError(f"a context of {context} tokens takes too much memory.", "Lower its max_context_tokens.")
        limits = EngineLimits(max_context_tokens=context, max_sequences=min(fitting, self.limits.max_sequences))
        return ServedModel(
            loaded, EmbeddedEngine(forward, limits, executor=self._compute), TokenTexts(loaded.tokenizer)
        )

    def _on_loaded(self, entry: _Entry, loading: "asyncio.Task[ServedModel]") -> None:
        if loading.cancelled() or loading.exception() is not None:
            self._forget(entry)
        self._released.set()

    def _give_back(self, entry: _Entry) -> None:
        entry.leased -= 1
        entry.last_used = next(self._leases)
        self._released.set()

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.weights.key) is entry:
            del self._entries[entry.weights.key]
        self._released.set()


async def _close(entry: _Entry) -> None:
    entry.loading.cancel()
    loaded = await asyncio.gather(entry.loading, return_exceptions=True)
    for model in loaded:
        if isinstance(model, ServedModel):
            await model.engine.close()
