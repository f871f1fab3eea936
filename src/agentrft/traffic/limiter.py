"""How many requests one endpoint gets at once.

The limit starts low and grows by a quarter with every round of answers, so that a step's first calls are no stampede;
above the level where the endpoint last complained it grows by one a round. It falls by 15 % at a 429 or 503, and where
answers take several times as long as they did with fewer requests (Jacobson and Karels 1988, "Congestion Avoidance and
Control"; the delay signal of Brakmo and Peterson 1995, "TCP Vegas"; a smaller decrease than TCP's half as in Ha, Rhee
and Xu 2008, "CUBIC": an endpoint says clearly when it has enough, and half its capacity would lie idle).
"""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

FIRST_SLOTS = 32
# An endpoint that was left alone for so long may have forgotten its connections and scaled down.
IDLE_S = 10.0
GROWTH = 0.25
DECREASE = 0.85
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
        self._waiting: deque[_Waiter] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_loop: asyncio.AbstractEventLoop | None = None

    async def acquire(self, *, first: bool = False, queue_deadline_s: float) -> int:
        """Wait for a slot, and `release` it later. Returns the window that the request belongs to, for `refused`.

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
            await self._wait(first, queue_deadline_s)
        return self._window

    def release(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        self._grant()
        if self.in_flight == 0:
            self._idle_since = time.monotonic()

    @asynccontextmanager
    async def slot(self, *, first: bool = False, queue_deadline_s: float) -> AsyncIterator[int]:
        """Hold a slot: `acquire` and `release`."""
        window = await self.acquire(first=first, queue_deadline_s=queue_deadline_s)
        try:
            yield window
        finally:
            self.release()

    def succeeded(self, latency_s: float) -> None:
        """The endpoint took a request and answered after `latency_s` seconds."""
        self._latencies.append(latency_s)
        self._look_at_latencies()
        # Answers to a few requests do not show that the endpoint would take many.
        if 2 * self.in_flight >= int(self.limit):
            more = GROWTH if self.limit < self._doubles_below else 1 / self.limit
            self.limit = min(float(self.maximum), self.limit + more)
            self._grant()

    def refused(self, window: int) -> None:
        """The endpoint answered that it has too much to do (429, 503) to a request of `window`: fewer slots.

        Requests that were already out when the limit fell say nothing about the new one, so a burst of refusals
        lowers it once and not once each.
        """
        if window == self._window:
            self._decrease()

    def _look_at_latencies(self) -> None:
        if len(self._latencies) < max(LEAST_FOR_A_MEDIAN, int(self.limit)):
            return
        median_s = statistics.median(self._latencies)
        self._latencies.clear()
        if self._usual_s is None:
            self._usual_s = median_s
        slow_s = max(SLOW_FACTOR * self._usual_s, self._usual_s + SLOW_AT_LEAST_S)
        if median_s > slow_s and self.limit > FIRST_SLOTS:
            self._decrease()
        self._usual_s = min(BASELINE_DRIFT * self._usual_s, median_s)

    def _decrease(self) -> None:
        self._window += 1
        self.limit = max(1.0, self.limit * DECREASE)
        self._doubles_below = self.limit
        self._latencies.clear()

    def _start_again_after_a_pause(self) -> None:
        if self._idle_since is not None and time.monotonic() - self._idle_since > IDLE_S:
            self._doubles_below = max(self.limit, self._doubles_below)
            self.limit = min(self.limit, float(FIRST_SLOTS))
        self._idle_since = None

    async def _wait(self, first: bool, deadline_s: float) -> None:
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        waiter = _Waiter(granted, loop.time() + deadline_s)
        if first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)
        self._grant()
        self._set_alarm(loop, waiter.deadline)
        try:
            await granted
        except asyncio.CancelledError:
            # Cancelled in the same moment as the slot came: hand it on. Else `_grant` skips the cancelled future.
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release()
            raise

    def _grant(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            granted = self._waiting.popleft().granted
            if not granted.done():
                self.in_flight += 1
                granted.set_result(None)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """Wake up at the earliest deadline: one timer for all waiters costs a thousand calls less than one each."""
        if self._alarm is not None and self._alarm_loop is loop:
            if self._alarm.when() <= deadline:
                return
            self._alarm.cancel()
        self._alarm, self._alarm_loop = loop.call_at(deadline, self._expire, loop), loop

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        now = loop.time()
        left = [waiter.deadline for waiter in self._waiting if not waiter.granted.done() and waiter.deadline > now]
        for waiter in self._waiting:
            if not waiter.granted.done() and waiter.deadline <= now:
                waiter.granted.set_exception(TimeoutError())
        if left:
            self._set_alarm(loop, min(left))


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A call that waits for a slot, until `deadline` by the loop's clock."""

    granted: "asyncio.Future[None]"
    deadline: float
