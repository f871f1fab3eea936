"""How many requests one endpoint gets at once: additive increase, multiplicative decrease."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AdaptiveLimiter:
    """At most `limit` holders of a slot at once; `limit` falls when the endpoint answers 429 and recovers slowly.

    Waiters get slots in the order they came; there are never more of them than calls under way.

    Attributes:
        maximum: the most slots there can ever be.
        limit: slots now, between 1 and `maximum`; the whole part counts.
        in_flight: slots held now.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = float(maximum)
        self.in_flight = 0
        self._halvings = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self, *, first: bool = False, queue_deadline_s: float) -> AsyncIterator[int]:
        """Hold a slot. Yields the window that the request belongs to, for `rate_limited`.

        Args:
            first: wait before the others, for a call that had its turn already and must repeat it.
            queue_deadline_s: the longest wait for the slot, in seconds.

        Raises:
            TimeoutError: no slot came free in time.
        """
        if self.in_flight < int(self.limit) and not self._waiting:
            self.in_flight += 1
        else:
            async with asyncio.timeout(queue_deadline_s):
                await self._acquire(first)
        try:
            yield self._halvings
        finally:
            self._release()

    def succeeded(self) -> None:
        """The endpoint took a request: one more slot after as many successes as there are slots."""
        self.limit = min(float(self.maximum), self.limit + 1 / self.limit)
        self._grant()

    def rate_limited(self, window: int) -> None:
        """The endpoint answered 429 to a request of `window`: halve the slots.

        Requests that were already out when the slots were halved say nothing about the new limit, so a
        burst of 429s halves once and not once each.
        """
        if window == self._halvings:
            self._halvings += 1
            self.limit = max(1.0, self.limit / 2)

    async def _acquire(self, first: bool) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(granted)
        else:
            self._waiting.append(granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            # Cancelled in the same moment as the slot came: hand it on. Else `_grant` skips the cancelled future.
            if not granted.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        self.in_flight -= 1
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.in_flight += 1
                waiter.set_result(None)
