"""Asking a job to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from agentrft.errors import Interrupted

T = TypeVar("T")


class Stop:
    """Set once; the job ends at its next safe point, with its finished rollouts and its last step on disk."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def request(self) -> None:
        """Ask the job to stop. From the thread of its event loop."""
        self._event.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when a stop is requested."""
        await self._event.wait()

    async def or_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled when a stop is requested; then raises `Interrupted`."""
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(self.wait())
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self.check()
            return await working
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def check(self) -> None:
        """Raise `Interrupted` if a stop was requested."""
        if self.requested:
            raise Interrupted("stopped on request; everything finished is kept")
