"""How many requests one endpoint gets at once.

The limit starts low and doubles with every round of answers, so that a step's first calls are no stampede; above the
level where the endpoint last complained it grows by one a round. It falls by half at a 429 or 503, and by a quarter
where answers take several times as long as they did with fewer requests (Jacobson and Karels 1988, "Congestion
Avoidance and Control", and the delay signal of Brakmo and Peterson 1995, "TCP Vegas").
"""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_SLOTS = 8
# An endpoint that was left alone for so long may have forgotten its connections and scaled down.
IDLE_S = 10.0
SLOW_FACTOR = 3.0
# A rise of less is the machine's noise.
SLOW_AT_LEAST_S = 0.05
LEAST_FOR_A_MEDIAN = 8
# Tools that become slower for good, such as with longer inputs, become the new normal: a hundredth a round.
BASELINE_DRIFT = 1.01


class AdaptiveLimiter:
    """At most `limit` holders of a slot at once.

    Waiters get slots in the order they came; there are never more of them than calls under way.

    Attributes:
        maximum: the most slots there can ever be.
        limit: slots now, between 1 and `maximum`; the whole part counts.
        in_flight: slots held now.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = float(min(maximum, FIRST_SLOTS))
        self.in_flight = 0
        self._doubles_below = float(maximum)
        self._window = 0
        self._latencies: list[float] = []
        self._usual_s: float | None = None
        self._idle_since: float | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self, *, first: bool = False, queue_deadline_s: float) -> AsyncIterator[int]:
        """Hold a slot. Yields the window that the request belongs to, for `refused`.

        Args:
            first: wait before the others, for a call that had its turn already and must repeat it.
            queue_deadline_s: the longest wait for the slot, in seconds.

        Raises:
            TimeoutError: no slot came free in time.
        """
        self._start_again_after_a_pause()
        if self.in_flight < int(self.limit) and not self._waiting:
            self.in_flight += 1
        else:
            async with asyncio.timeout(queue_deadline_s):
                await self._acquire(first)
        try:
            yield self._window
        finally:
            self._release()

    def succeeded(self, latency_s: float) -> None:
        """The endpoint took a request and answered after `latency_s` seconds."""
        self._latencies.append(latency_s)
        self._look_at_latencies()
        # Answers to a few requests do not show that the endpoint would take many.
        if 2 * self.in_flight >= int(self.limit):
            more = 1.0 if self.limit < self._doubles_below else 1 / self.limit
            self.limit = min(float(self.maximum), self.limit + more)
            self._grant()

    def refused(self, window: int) -> None:
        """The endpoint answered that it has too much to do (429, 503) to a request of `window`: halve the slots.

        Requests that were already out when the slots were halved say nothing about the new limit, so a
        burst of refusals halves once and not once each.
        """
        if window == self._window:
            self._decrease(1 / 2)

    def _look_at_latencies(self) -> None:
        if len(self._latencies) < max(LEAST_FOR_A_MEDIAN, int(self.limit)):
            return
        median_s = statistics.median(self._latencies)
        self._latencies.clear()
        if self._usual_s is None:
            self._usual_s = median_s
        slow_s = max(SLOW_FACTOR * self._usual_s, self._usual_s + SLOW_AT_LEAST_S)
        if median_s > slow_s and self.limit > FIRST_SLOTS:
            self._decrease(3 / 4)
        self._usual_s = min(BASELINE_DRIFT * self._usual_s, median_s)

    def _decrease(self, factor: float) -> None:
        self._window += 1
        self.limit = max(1.0, self.limit * factor)
        self._doubles_below = self.limit
        self._latencies.clear()

    def _start_again_after_a_pause(self) -> None:
        if self._idle_since is not None and time.monotonic() - self._idle_since > IDLE_S:
            self._doubles_below = max(self.limit, self._doubles_below)
            self.limit = min(self.limit, float(FIRST_SLOTS))
        self._idle_since = None

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
        if self.in_flight == 0:
            self._idle_since = time.monotonic()

    def _grant(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.in_flight += 1
                waiter.set_result(None)
