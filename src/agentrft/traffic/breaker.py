"""Waiting out an endpoint that is down, instead of sending every rollout into it.

After several failures without an answer between them the breaker opens: calls wait. One at a time is let through, at
growing intervals, and the first answer closes it (the circuit breaker of Nygard, "Release It!", 2007).
"""

import asyncio
import time
from collections.abc import Callable

FAILURES_TO_OPEN = 5
FIRST_TRIAL_S = 1.0
MAX_TRIAL_INTERVAL_S = 15.0
OUTAGE_DEADLINE_S = 600.0

Notify = Callable[[str, str], None]
"""Called with a level ("info", "warning", "error") and a text, from the event loop; must return at once."""


def notify_nobody(level: str, text: str) -> None:
    pass


class OutageError(Exception):
    """The endpoint has been down for longer than a call waits."""


class Breaker:
    """Used from one event loop.

    Args:
        label: what to call the endpoint in events.
        notify: told when the endpoint goes down and when it answers again.
    """

    def __init__(self, label: str, notify: Notify = notify_nobody) -> None:
        self._label = label
        self._notify = notify
        self._failures = 0
        self._opened_at: float | None = None
        self._trial_at = 0.0
        self._trial_interval_s = FIRST_TRIAL_S
        self._trial_runs = False
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    async def admit(self) -> bool:
        """Wait until a request may be sent. Returns whether it is a trial, for `settle`.

        Raises:
            OutageError: the endpoint was down for too long.
        """
        while self._opened_at is not None:
            now = time.monotonic()
            if not self._trial_runs and now >= self._trial_at:
                self._trial_runs = True
                return True
            left_s = self._opened_at + OUTAGE_DEADLINE_S - now
            if left_s <= 0:
                raise OutageError(f"down for {now - self._opened_at:.0f} s")
            if not self._trial_runs:
                left_s = min(left_s, self._trial_at - now)
            try:
                await asyncio.wait_for(self._changed.wait(), left_s)
            except TimeoutError:
                continue
        return False

    def settle(self, trial: bool, answered: bool | None, fault: str = "") -> None:
        """How an admitted request ended.

        Args:
            answered: whether the endpoint works; None where the request never came to show it.
            fault: what broke, for the event.
        """
        if trial:
            self._trial_runs = False
        if answered:
            self._failures = 0
            if self._opened_at is not None:
                down_s = time.monotonic() - self._opened_at
                self._opened_at = None
                self._notify("info", f"{self._label} answers again after {down_s:.0f} s; the job goes on")
        elif self._opened_at is not None:
            if trial:
                if answered is not None:
                    self._trial_interval_s = min(2 * self._trial_interval_s, MAX_TRIAL_INTERVAL_S)
                self._trial_at = time.monotonic() + self._trial_interval_s
        elif answered is not None:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._open(fault)
        self._wake()

    def _open(self, fault: str) -> None:
        self._opened_at = time.monotonic()
        self._trial_interval_s = FIRST_TRIAL_S
        self._trial_at = self._opened_at + self._trial_interval_s
        text = f"{self._label} is down ({fault}); calls to it wait, at most {OUTAGE_DEADLINE_S:.0f} s, until it answers"
        self._notify("warning", text)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
