"""Asking a job to stop."""

import asyncio

from agentrft.errors import Interrupted


class Stop:
    """Set once; the job ends at its next safe point, with its finished rollouts and its last step on disk."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def request(self) -> None:
        self._event.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    def check(self) -> None:
        """Raise `Interrupted` if a stop was requested."""
        if self.requested:
            raise Interrupted("stopped on request; everything finished is kept")
