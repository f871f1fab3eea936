"""Waiting out an endpoint that is down, instead of sending every rollout into it.

After several failures without an answer between them the endpoint is probed. If it does not answer that either, the
breaker opens: calls wait, and the probe is repeated at growing intervals until it is answered (the circuit breaker of
Nygard, "Release It!", 2007). A call that the endpoint breaks on, time and again, while it answers the probe is that
call's own failure and holds up no other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

FAILURES_TO_PROBE = 5
FIRST_INTERVAL_S = 1.0
MAX_INTERVAL_S = 15.0

Notify = Callable[[str, str], None]
"""Called with a level ("info", "warning", "error") and a text, from the event loop; must return at once."""


def notify_nobody(level: str, text: str) -> None:
    pass


class OutageError(Exception):
    """The endpoint has been down for longer than a call waits."""


class Breaker:
    """Used from one event loop at a time.

    Args:
        label: what to call the endpoint in events.
        probe: whether the endpoint answers.
        notify: told when the endpoint goes down and when it answers again.
    """

    def __init__(self, label: str, probe: Callable[[], Awaitable[bool]], notify: Notify) -> None:
        self._label = label
        self._probe = probe
        self._notify = notify
        self._failures = 0
        self._opened_at: float | None = None
        self._closed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    async def admit(self, patience_s: float) -> None:
        """Wait until the endpoint is up.

        Raises:
            OutageError: it was not within `patience_s` seconds.
        """
        if self._opened_at is None:
            return
        opened_at = self._opened_at
        try:
            await asyncio.wait_for(self._closed.wait(), max(0.0, patience_s))
        except TimeoutError:
            raise OutageError(f"down for {time.monotonic() - opened_at:.0f} s") from None

    def answered(self) -> None:
        """The endpoint answered a request."""
        self._failures = 0
        if self._opened_at is not None:
            down_s = time.monotonic() - self._opened_at
            self._opened_at = None
            self._closed.set()
            self._notify("info", f"{self._label} answers again after {down_s:.0f} s; the job goes on")

    def failed(self, kind: str) -> None:
        """The endpoint answered a request with an error of its own, or not at all."""
        self._failures += 1
        if self._failures >= FAILURES_TO_PROBE and (self._watch is None or self._watch.done()):
            self._watch = asyncio.create_task(self._watch_until_it_answers(kind), name=f"agentrft-watch-{self._label}")

    async def close(self) -> None:
        """Stop probing."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch_until_it_answers(self, kind: str) -> None:
        interval_s = FIRST_INTERVAL_S
        while not await self._probe():
            if self._opened_at is None:
                self._opened_at = time.monotonic()
                self._closed = asyncio.Event()
                self._notify("warning", f"{self._label} is down ({kind}); calls to it wait until it answers")
            await asyncio.sleep(interval_s)
            interval_s = min(2 * interval_s, MAX_INTERVAL_S)
        self.answered()
