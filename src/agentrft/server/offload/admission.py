"""Who may do heavy work now, who waits, and who is told to come again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from agentrft.server.errors import ApiError

T = TypeVar("T")


class HungUp(Exception):
    """The client is gone: there is nobody to answer."""


class Admission:
    """A queue of its own for each kind of heavy work. Used from one event loop.

    Args:
        what: the work is called in messages.
        max_running: at once.
        max_waiting: beside these; more are refused.
        retry_after_s: when those who are refused are told to come again.
    """

    def __init__(self, what: str, *, max_running: int, max_waiting: int, retry_after_s: int) -> None:
        self._what = what
        self._running = asyncio.Semaphore(max_running)
        self._most = max_running + max_waiting
        self._retry_after_s = retry_after_s
        self.admitted = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place to work in, after the wait for it.

        Raises:
            ApiError: 503, too many wait already.
        """
        if self.admitted >= self._most:
            raise ApiError(
                503,
                f"{self.admitted} requests for {self._what} are waiting or running already; try again later.",
                code="overloaded",
                retry_after_s=self._retry_after_s,
            )
        self.admitted += 1
        try:
            async with self._running:
                yield
        finally:
            self.admitted -= 1


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work gives. It is cancelled when the client hangs up; the request's body must have been read.

    Raises:
        HungUp: the client did.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUp
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
