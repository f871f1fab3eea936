"""Waiting out an endpoint that is down, or refuses its credential, instead of sending every rollout into it.

After several failures without an answer between them the breaker opens: calls wait. At growing intervals one of them is
let through, and when one is answered all are (half-open: the circuit breaker of Nygard, "Release It!", 2007). No
request is made up to find out: what goes out is a call that was to be made anyhow, and an endpoint gets nothing that it
was not built for.

A call may also break an endpoint that works for all others, and waiting would not mend it. So
- calls that have not failed yet are let through first, and the endpoint is up as soon as one is answered;
- a call that fails again after a later one was answered is on its own: it says nothing of the endpoint. Once that
  happened, failures that may be the call's count only once for all calls that ask for the same;
- where nothing says for sure that the endpoint is down (no connection, or a gateway's 502, 503 or 504), calls that
  failed wait no longer than `DOUBT_S`.

A credential that is refused (401, 403, 407) is the same for all calls, so the first refusal opens the breaker. A 403 of
a tool may be about what the model asked for, which no new credential mends: several that ask for different things must
be refused, with no answer between them.
"""

import re
import time
from collections.abc import Callable, Hashable

from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault
from agentrft.traffic.waiting import Caller, WaitingRoom

FAILURES_TO_OPEN = 5
# Longer than the outages in which no call may be lost.
DOUBT_S = 60.0

Notify = Callable[[str, str], None]
"""Called with a level ("info", "warning", "error") and a text, from the event loop; must return at once."""


def notify_nobody(level: str, text: str) -> None:
    pass


# What is told of an endpoint: for those who read it later, `outage_of`.
DOWN, REFUSES = "is down (", "refuses its credential"
UP, TAKEN = "answers again after", "takes its credential again after"
TOLD = re.compile(rf"(?P<endpoint>.+?) (?:(?P<down>{re.escape(DOWN)}|{REFUSES})|{UP}|{TAKEN})")


def outage_of(text: str) -> tuple[str, bool] | None:
    """Of a text that `Notify` was told: which endpoint, and whether calls to it began to wait; None of others."""
    found = TOLD.match(text)
    return None if found is None else (found["endpoint"], found["down"] is not None)


class OutageError(Exception):
    """The endpoint has been down, or has refused its credential, for longer than a call waits. `kind` says which; it is
    the call's own last fault where the endpoint may be up all the time."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Breaker:
    """Used from one event loop at a time.

    Args:
        label: what to call the endpoint in events.
        notify: told when the endpoint goes down and when it answers again.
        forbids_things: whether a 403 may be about what was asked for.
    """

    def __init__(self, label: str, notify: Notify, *, forbids_things: bool = True) -> None:
        self._label = label
        self._notify = notify
        self._forbids_things = forbids_things
        # While it is closed: what failed since the last answer.
        self._failures = 0
        self._broken: set[Hashable] = set()
        self._forbidden: set[Hashable] = set()
        self._last_taken = 0.0
        self._breaks_on_calls = False
        # While it is open.
        self._opened_at: float | None = None
        self._refuses = False
        self._is_sure = False
        self._gave_up = False
        self._told_down = False
        self._told_refused = False
        self._room = WaitingRoom()

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    async def admit(self, caller: Caller, deadline_s: float) -> bool:
        """Wait until the endpoint is up, or this call is to find out. Returns whether it is; then call `end_trial`.

        Args:
            deadline_s: how long the call waits in all.

        Raises:
            OutageError: it was not up in time.
        """
        if self._opened_at is None:
            return False
        if self._doubts_too_long() and caller.has_failed:
            raise self._given_up(caller)
        try:
            return await self._room.wait(caller, deadline_s - caller.waited_s)
        except TimeoutError:
            raise self._outage() from None

    def end_trial(self, caller: Caller) -> None:
        """The call that `admit` chose has ended, whatever became of it."""
        self._room.end_trial(caller)

    def answered(self, sent_at: float) -> None:
        """The endpoint answered a request, sent at a moment of `time.monotonic`."""
        self._last_taken = max(self._last_taken, sent_at)
        self._failures = 0
        if self._broken or self._forbidden:
            self._broken.clear()
            self._forbidden.clear()
        # A server that ends, or whose token expires, still answers what it has.
        if self._opened_at is not None and sent_at > self._opened_at:
            self._close()

    def failed(self, fault: Fault, caller: Caller, sent_at: float) -> None:
        """The endpoint answered with an error of its own, refused the credential, or did not answer.

        Args:
            sent_at: the moment of `time.monotonic` when the request was sent.
        """
        caller.note(fault, sent_at)
        is_alone = caller.is_alone(self._last_taken) and not fault.is_outage
        if self._opened_at is not None:
            self._failed_while_open(fault, caller, sent_at)
        elif fault.kind == CREDENTIAL_REFUSED:
            if not is_alone:
                self._was_refused(fault, caller)
        elif is_alone:
            self._breaks_on_calls = True
        else:
            self._count(fault, caller)

    async def close(self) -> None:
        """Let nobody through any more."""
        self._room.stop()

    def _count(self, fault: Fault, caller: Caller) -> None:
        asks_for = caller.asks_for()
        is_known = asks_for in self._broken
        self._broken.add(asks_for)
        if is_known and self._breaks_on_calls and not fault.is_outage:
            return
        self._failures += 1
        self._is_sure = fault.is_outage or (self._is_sure and self._failures > 1)
        if self._failures >= FAILURES_TO_OPEN:
            self._open(fault)

    def _was_refused(self, fault: Fault, caller: Caller) -> None:
        if fault.is_forbidden and self._forbids_things:
            self._forbidden.add(caller.asks_for())
            if len(self._forbidden) < FAILURES_TO_OPEN:
                return
        self._is_sure = True
        self._open(fault)

    def _failed_while_open(self, fault: Fault, caller: Caller, sent_at: float) -> None:
        assert self._opened_at is not None
        self._is_sure |= fault.is_outage or fault.kind == CREDENTIAL_REFUSED
        trial = self._room.trial
        if trial is None or trial.caller is not caller or sent_at < self._opened_at:
            return
        if fault.is_forbidden and self._forbids_things and not self._refuses:
            # It answers; whether the credential is meant is for more of them to say.
            self.answered(sent_at)
            self._was_refused(fault, caller)
            return
        self._room.broke()
        self._tell(fault)
        if self._doubts_too_long():
            self._room.dismiss_failed(self._given_up)

    def _open(self, fault: Fault) -> None:
        self._opened_at = time.monotonic()
        self._refuses = fault.kind == CREDENTIAL_REFUSED
        # What is refused was not done, so that finding out costs nothing.
        self._room.open(at_once=self._refuses)
        if fault.is_outage:
            self._tell(fault)

    def _tell(self, fault: Fault) -> None:
        """Tell once in an outage that the endpoint is down, and once that it refuses."""
        self._refuses = fault.kind == CREDENTIAL_REFUSED
        if self._refuses and not self._told_refused:
            self._told_refused = True
            self._notify(
                "warning",
                f"{self._label} {REFUSES} (401, 403 or 407); calls to it wait until it is taken again. "
                "Renew the key or token there, or stop the job, correct the `headers`, and resume it",
            )
        if not self._refuses and not self._told_down:
            self._told_down = True
            self._notify("warning", f"{self._label} {DOWN}{fault.kind}); calls to it wait until it answers")

    def _close(self) -> None:
        assert self._opened_at is not None
        down_s = time.monotonic() - self._opened_at
        if self._told_refused:
            self._notify("info", f"{self._label} {TAKEN} {down_s:.0f} s; the job goes on")
        elif self._told_down:
            self._notify("info", f"{self._label} {UP} {down_s:.0f} s; the job goes on")
        self._breaks_on_calls |= self._gave_up
        self._opened_at = None
        self._refuses = self._is_sure = self._gave_up = self._told_down = self._told_refused = False
        self._room.empty()

    def _doubts_too_long(self) -> bool:
        return not self._is_sure and self._opened_at is not None and time.monotonic() - self._opened_at >= DOUBT_S

    def _given_up(self, caller: Caller) -> OutageError:
        self._gave_up = True
        kind = caller.last_fault.kind if caller.last_fault is not None else "outage"
        return OutageError(kind, f"nothing was answered for {DOUBT_S:.0f} s")

    def _outage(self) -> OutageError:
        since_s = f"for {time.monotonic() - (self._opened_at or 0.0):.0f} s"
        if self._refuses:
            return OutageError(CREDENTIAL_REFUSED, f"its credential was refused {since_s}")
        return OutageError("outage", f"down {since_s}")
