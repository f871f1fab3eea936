"""The calls that wait for an endpoint, and which of them finds out next whether it is back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault

FIRST_INTERVAL_S = 1.0
MAX_INTERVAL_S = 15.0


@dataclass(frozen=True, slots=True)
class CallerState:
    """What has become of a call so far: `Caller`'s attributes, and when it first failed by the gate's clock."""

    waited_s: float
    last_fault: Fault | None
    failed_at: float | None


class Caller:
    """One call, as a breaker knows it.

    Args:
        asks_for: what it asks for; calls that ask for the same may all break an endpoint that works. Looked at where
            the call fails.

    Attributes:
        waited_s: for the endpoint to come back, requests that found out that it had not included.
        last_fault: what it met last.
    """

    def __init__(self, asks_for: Callable[[], Hashable]) -> None:
        self.asks_for = asks_for
        self.waited_s = 0.0
        self.last_fault: Fault | None = None
        self._failed_at: float | None = None

    @property
    def has_failed(self) -> bool:
        return self._failed_at is not None

    @property
    def state(self) -> CallerState:
        """To be taken to another process, or brought back from it."""
        return CallerState(self.waited_s, self.last_fault, self._failed_at)

    @state.setter
    def state(self, state: CallerState) -> None:
        self.waited_s, self.last_fault, self._failed_at = state.waited_s, state.last_fault, state.failed_at

    def note(self, fault: Fault, sent_at: float) -> None:
        """It failed, by a request that was sent at a moment of `time.monotonic`."""
        self.last_fault = fault
        if self._failed_at is None:
            # Who took a credential after this one was sent would have taken this one.
            self._failed_at = sent_at if fault.kind == CREDENTIAL_REFUSED else time.monotonic()

    def is_alone(self, last_taken: float) -> bool:
        """Whether the endpoint answered a call that was sent after this one had failed."""
        return self._failed_at is not None and last_taken > self._failed_at


@dataclass(slots=True)
class Trial:
    """The call that is to find out. `has_broken`: it did, and the endpoint is not back."""

    caller: Caller
    began: float
    had_failed: bool
    has_broken: bool = False


class WaitingRoom:
    """Lets through one call at a time, at growing intervals, until it is emptied.

    Those go first that have not failed yet: a call that failed may be what breaks the endpoint, and says little of one
    that has not.

    Attributes:
        trial: what was let through and has not ended.
    """

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self._waiting: deque[_Waiter] = deque()
        self._interval_s = FIRST_INTERVAL_S
        self._next_at = 0.0
        self._next_unfailed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, *, at_once: bool) -> None:
        """From now on calls wait; with `at_once` the first one that has not failed need not."""
        now = time.monotonic()
        self._interval_s = FIRST_INTERVAL_S
        self._next_at = now + FIRST_INTERVAL_S
        self._next_unfailed_at = now if at_once else self._next_at

    async def wait(self, caller: Caller, left_s: float) -> bool:
        """Wait for the room to be emptied (False), or to be let through (True); then call `end_trial`.

        Raises:
            TimeoutError: neither happened in `left_s` seconds.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), caller)
        self._waiting.append(waiter)
        self._let_through()
        began = time.monotonic()
        is_over = False
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                is_trial = await waiter.admitted
            is_over = True
            return is_trial
        finally:
            caller.waited_s += time.monotonic() - began
            if not is_over:
                self._withdraw(waiter)

    def broke(self) -> None:
        """The trial found that the endpoint is not back."""
        assert self.trial is not None
        self.trial.has_broken = True
        now = time.monotonic()
        self._interval_s = min(2 * self._interval_s, MAX_INTERVAL_S)
        self._next_at = now + self._interval_s
        self._next_unfailed_at = now + FIRST_INTERVAL_S if self.trial.had_failed else self._next_at

    def end_trial(self, caller: Caller) -> None:
        """The call that was let through has ended, whatever it found; nothing, where the room was emptied since."""
        trial = self.trial
        if trial is None or trial.caller is not caller:
            return
        self.trial = None
        now = time.monotonic()
        caller.waited_s += now - trial.began
        if not trial.has_broken:
            self._next_at = self._next_unfailed_at = now + FIRST_INTERVAL_S
        self._let_through()

    def dismiss_failed(self, error: Callable[[Caller], Exception]) -> None:
        """Those that have failed wait no longer; each gets its error."""
        for waiter in self._waiting:
            if waiter.caller.has_failed and not waiter.admitted.done():
                waiter.admitted.set_exception(error(waiter.caller))

    def empty(self) -> None:
        """All go on."""
        self.stop()
        self.trial = None
        while self._waiting:
            admitted = self._waiting.popleft().admitted
            if not admitted.done():
                admitted.set_result(False)

    def stop(self) -> None:
        """Let nobody through, until another one comes."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _let_through(self) -> None:
        """Choose the next call, if it is time, or wait until it is."""
        self.stop()
        waiting = [waiter for waiter in self._waiting if not waiter.admitted.done()]
        if self.trial is not None or not waiting:
            return
        now = time.monotonic()
        chosen, at = waiting[0], self._next_at
        unfailed = next((waiter for waiter in waiting if not waiter.caller.has_failed), None)
        if unfailed is not None and self._next_unfailed_at <= max(at, now):
            chosen, at = unfailed, self._next_unfailed_at
        if at > now:
            self._timer = asyncio.get_running_loop().call_later(at - now, self._let_through)
            return
        self.trial = Trial(chosen.caller, now, had_failed=chosen.caller.has_failed)
        self._waiting.remove(chosen)
        chosen.admitted.set_result(True)

    def _withdraw(self, waiter: "_Waiter") -> None:
        """It waits no longer, and may just have been chosen."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        if waiter.admitted.done() and not waiter.admitted.cancelled():
            waiter.admitted.exception()  # looked at, or asyncio complains that nobody did
        self.end_trial(waiter.caller)


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call that waits; `admitted` becomes whether it is a trial."""

    admitted: "asyncio.Future[bool]"
    caller: Caller
