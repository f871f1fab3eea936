"""A least-recently-used cache of loaded models.

The inference process keeps base models and adapters in it. An entry is loaded by the first request that asks for it,
leased to requests while they use it, and evicted, when there is no place for another, once nobody has it leased.
"""

import asyncio
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

from agentrft.server.inference.errors import ApiError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class Entry(Generic[T]):
    """One cached model.

    Attributes:
        name: for messages and lists.
        loading: the task that loads it; its result is the model.
        leased: how many requests use it; only an entry that none uses is evicted.
        last_used: the number of its last lease, counted over the whole cache: the smallest is evicted first.
    """

    key: Hashable
    name: str
    loading: "asyncio.Task[T]"
    leased: int = 0
    last_used: int = 0

    @property
    def idle(self) -> bool:
        return self.leased == 0 and self.loading.done()


class ModelCache(Generic[T]):
    """Loaded models by key. It is used from one event loop.

    Args:
        what: the plural noun for error messages, such as "models".
        places: the largest number of entries, those that are still loading included.
        max_waiting: how many requests may wait for a place; more are refused.
        discard: is awaited with each model that is evicted.
    """

    def __init__(self, what: str, places: int, max_waiting: int, discard: Callable[[T], Awaitable[None]]) -> None:
        self._what, self._places, self._max_waiting, self._discard = what, places, max_waiting, discard
        self._entries: dict[Hashable, Entry[T]] = {}
        self._waiting = 0
        self._released = asyncio.Event()
        self._leases = itertools.count(1)

    @property
    def loaded(self) -> list[tuple[str, T]]:
        """Names and models in memory, the least recently used first."""
        entries = sorted(self._entries.values(), key=lambda entry: entry.last_used)
        return [(entry.name, entry.loading.result()) for entry in entries if entry.loading.done()]

    async def take(self, key: Hashable, name: str, load: Callable[[], Awaitable[T]], leases: ExitStack) -> Entry[T]:
        """Lease the model with this key until `leases` ends; if it is not there, wait for a place, and call `load`.

        Raises:
            ApiError: too many wait for a place already.
            Exception: what `load` raised; others and later requests try again.
        """
        entry = await self._place(key, name, load)
        entry.leased += 1
        leases.callback(self._give_back, entry)
        # Shielded: others may wait for the same thing.
        await asyncio.shield(entry.loading)
        return entry

    def forget(self, entry: Entry[T]) -> None:
        """Remove the entry from the cache; requests that have it leased keep it."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        self._released.set()

    async def close(self) -> None:
        """Discard all entries, leased or not."""
        entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            await self._give_up(entry)

    async def _place(self, key: Hashable, name: str, load: Callable[[], Awaitable[T]]) -> Entry[T]:
        """The entry with this key; a new one, as soon as there is a place, if there is none."""
        while True:
            if key in self._entries:
                return self._entries[key]
            if len(self._entries) < self._places:
                loading = asyncio.ensure_future(load())
                entry = self._entries[key] = Entry(key, name, loading, last_used=next(self._leases))
                loading.add_done_callback(functools.partial(self._on_loaded, entry))
                return entry
            idle = [entry for entry in self._entries.values() if entry.idle]
            if idle:
                evicted = min(idle, key=lambda entry: entry.last_used)
                logger.info("%s is given up for %s", evicted.name, name)
                self.forget(evicted)
                await self._give_up(evicted)
            else:
                await self._wait_for_release()

    async def _wait_for_release(self) -> None:
        if self._waiting >= self._max_waiting:
            message = f"All {self._places} {self._what} in memory are in use, and {self._waiting} requests wait."
            raise ApiError(503, message, code="overloaded", retry=True)
        self._waiting += 1
        self._released.clear()
        try:
            await self._released.wait()
        finally:
            self._waiting -= 1

    async def _give_up(self, entry: Entry[T]) -> None:
        entry.loading.cancel()
        await asyncio.gather(entry.loading, return_exceptions=True)
        if not entry.loading.cancelled() and entry.loading.exception() is None:
            await self._discard(entry.loading.result())

    def _on_loaded(self, entry: Entry[T], loading: "asyncio.Task[T]") -> None:
        if loading.cancelled() or loading.exception() is not None:
            self.forget(entry)
        self._released.set()

    def _give_back(self, entry: Entry[T]) -> None:
        entry.leased -= 1
        entry.last_used = next(self._leases)
        self._released.set()
