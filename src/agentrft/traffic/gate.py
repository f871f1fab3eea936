"""What a request to an endpoint passes before it is sent, and is told of afterwards: breaker, slots and rate.

An endpoint has one gate. Where several processes send to it, all of them pass the gate that one of them has, so that
its limits hold over all together; `Gates` is how endpoints come by theirs.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

from agentrft.traffic.bearing import Traffic
from agentrft.traffic.breaker import Breaker, Notify
from agentrft.traffic.limiter import AdaptiveLimiter
from agentrft.traffic.rate import RateLimit
from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault
from agentrft.traffic.waiting import Caller

# Faults of the endpoint or its credential, rather than that it disliked a request.
FAILURES = frozenset({"connection", "timeout", "server_error", CREDENTIAL_REFUSED})


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to send one request, to be given back by `leave` or `give_back`.

    Attributes:
        window: see `AdaptiveLimiter.acquire`.
        is_trial: whether it is to find out if the endpoint is back.
        at: when it was given, in `time.monotonic` seconds of the gate's process.
        ticket: what that process knows it by in another one.
    """

    window: int
    is_trial: bool
    at: float
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a request.

    Attributes:
        fault: by its status, or why there is no answer; None where it was answered.
        is_answer: whether there was an answer at all, such as a status that is a fault.
        latency_s: seconds from sending to the end of the answer.
    """

    fault: Fault | None
    is_answer: bool
    latency_s: float


class Gate(Protocol):
    """Of one endpoint. Used from one event loop at a time."""

    @property
    def is_down(self) -> bool:
        """Whether calls wait for the endpoint to come back."""
        ...

    async def enter(
        self, caller: Caller, *, is_repeated: bool, queue_left_s: float, outage_deadline_s: float
    ) -> Admission | None:
        """Wait until a request may be sent; None where the endpoint went down meanwhile, and the call is to ask again.

        Args:
            is_repeated: the call had its turn before, and goes before others.
            queue_left_s: how long it still waits for a slot.
            outage_deadline_s: how long it waits in all for an endpoint that is down.

        Raises:
            OutageError: the endpoint was not back in time.
            TimeoutError: no slot came free in time; its message says how many there are.
        """
        ...

    async def leave(self, caller: Caller, admission: Admission, seen: Seen) -> Fault | None:
        """Say what came of the request, and give the admission back. Returns the fault as the call is to take it."""
        ...

    def give_back(self, caller: Caller, admission: Admission) -> None:
        """Give back the admission of a request that nothing is known of: it was not sent, or broken off."""
        ...

    def took_credential(self, took: bool) -> None:
        """What a call outside of the gate was answered says whether the credential is taken."""
        ...

    async def close(self) -> None:
        """Let nobody through any more."""
        ...


class LocalGate:
    """See `Gate`: in this process.

    Args:
        where: what to call the endpoint in events.
        notify: told when it goes down and when it answers again.
        forbids_things: whether a 403 may be about what was asked for.
    """

    def __init__(self, where: str, traffic: Traffic, notify: Notify, *, forbids_things: bool) -> None:
        self.limiter = AdaptiveLimiter(traffic.max_concurrency)
        self.breaker = Breaker(where, notify, forbids_things=forbids_things)
        self._rate = RateLimit(traffic.rate_limit)
        # Until a call was answered a refusal is a mistake of the user's, which no waiting mends.
        self._took_credential = False

    @property
    def is_down(self) -> bool:
        return self.breaker.is_open

    async def enter(
        self, caller: Caller, *, is_repeated: bool, queue_left_s: float, outage_deadline_s: float
    ) -> Admission | None:
        """See `Gate`."""
        is_trial = self.breaker.is_open and await self.breaker.admit(caller, outage_deadline_s)
        try:
            admission = await self._queued(is_trial=is_trial, is_repeated=is_repeated, queue_left_s=queue_left_s)
        except BaseException:  # such as a call that is cancelled in the queue: others may find out instead
            if is_trial:
                self.breaker.end_trial(caller)
            raise
        if self.breaker.is_open and not is_trial:
            # It went down while this call was in the queue.
            self.give_back(caller, admission)
            return None
        return admission

    async def leave(self, caller: Caller, admission: Admission, seen: Seen) -> Fault | None:
        """See `Gate`."""
        fault = self._judged(caller, admission, seen)
        self.give_back(caller, admission)
        return fault

    def give_back(self, caller: Caller, admission: Admission) -> None:
        """See `Gate`."""
        self.limiter.release()
        if admission.is_trial:
            self.breaker.end_trial(caller)

    def took_credential(self, took: bool) -> None:
        """See `Gate`."""
        self._took_credential = took

    async def close(self) -> None:
        """See `Gate`."""
        await self.breaker.close()

    async def _queued(self, *, is_trial: bool, is_repeated: bool, queue_left_s: float) -> Admission:
        try:
            window = await self.limiter.acquire(first=is_trial or is_repeated, queue_deadline_s=queue_left_s)
        except TimeoutError:
            raise TimeoutError(f"{int(self.limiter.limit)} slots") from None
        try:
            await self._rate.wait()
        except BaseException:  # such as a call that is cancelled: the slot is for the next
            self.limiter.release()
            raise
        return Admission(window, is_trial, time.monotonic())

    def _judged(self, caller: Caller, admission: Admission, seen: Seen) -> Fault | None:
        fault = seen.fault
        if fault is not None and fault.kind == CREDENTIAL_REFUSED and not self._took_credential:
            self.breaker.answered(admission.at)
            return replace(fault, transient=False, message=f"its key or token was never taken: {fault.message}")
        # What would fail again is about the request.
        if fault is not None and fault.kind in FAILURES and fault.transient:
            self.breaker.failed(fault, caller, admission.at)
        else:
            self._took_credential = True
            self.breaker.answered(admission.at)
        if seen.is_answer:
            if fault is None:
                self.limiter.succeeded(seen.latency_s)
            elif fault.overloaded:
                self.limiter.refused(admission.window)
        return fault


class Gates:
    """The gates of a job's endpoints, by name. Endpoints that are made in the same order have the same names."""

    def __init__(self) -> None:
        self._by_name: dict[str, Gate] = {}

    def __getitem__(self, name: str) -> Gate:
        return self._by_name[name]

    def add(self, label: str, where: str, traffic: Traffic, notify: Notify, *, forbids_things: bool) -> Gate:
        """Another endpoint's."""
        number = sum(name.rpartition("/")[0] == label for name in self._by_name)
        name = f"{label}/{number}"
        self._by_name[name] = self.made(name, where, traffic, notify, forbids_things=forbids_things)
        return self._by_name[name]

    def made(self, name: str, where: str, traffic: Traffic, notify: Notify, *, forbids_things: bool) -> Gate:
        """A gate; where it is one of another process, `name` is what that knows it by."""
        return LocalGate(where, traffic, notify, forbids_things=forbids_things)


_gates: ContextVar[Gates | None] = ContextVar("agentrft-gates", default=None)


@contextmanager
def having_gates(gates: Gates) -> Iterator[None]:
    """Endpoints that are made meanwhile have their gates from there."""
    token = _gates.set(gates)
    try:
        yield
    finally:
        _gates.reset(token)


def new_gate(label: str, where: str, traffic: Traffic, notify: Notify, *, forbids_things: bool) -> Gate:
    """For an endpoint that is being made."""
    gates = _gates.get() or Gates()
    return gates.add(label, where, traffic, notify, forbids_things=forbids_things)
