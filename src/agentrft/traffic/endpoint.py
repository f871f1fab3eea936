"""One HTTP endpoint of the user's, and everything that stands between a burst of calls and it.

A call is a loop of attempts. Each passes the endpoint's gate: it waits until the endpoint is up (`Breaker`), for a slot
(`AdaptiveLimiter`) and for its turn (`RateLimit`). It sends one request, and reads the answer as something of worth or
as a fault; a fault is repeated as long as the call's `RetryBudget` allows, and then returned.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import aiohttp
from yarl import URL

from agentrft.errors import EndpointError
from agentrft.traffic.addresses import refuses_link_local, resolver
from agentrft.traffic.bearing import Traffic
from agentrft.traffic.breaker import Notify, OutageError, notify_nobody
from agentrft.traffic.connect import connect
from agentrft.traffic.gate import Admission, Seen, new_gate
from agentrft.traffic.http import (
    CREDENTIAL_STATUSES,
    Answer,
    check_headers,
    fault_of,
    read_bounded,
    shorten,
    trial_complaint,
    with_content_type,
)
from agentrft.traffic.redaction import Redactor, public_url
from agentrft.traffic.retry import MAX_BACKOFF_S, RATE_LIMIT_DEADLINE_S, Fault, RetryBudget
from agentrft.traffic.waiting import Caller

logger = logging.getLogger(__name__)

T = TypeVar("T")
QUEUE_DEADLINE_S = 900.0
CONNECT_TIMEOUT_S = 15.0
BACKOFF_S = 0.5
DOWN_AGAIN = Fault("outage", "", transient=True, may_have_arrived=False)


@dataclass
class Sent(Generic[T]):
    """How a call ended.

    Attributes:
        verdict: what `read` made of the answer, or the last fault, its message without secrets and short.
        attempts: HTTP requests sent.
        faults: of those the ones that broke, in order.
    """

    verdict: T | Fault
    attempts: int = 0
    faults: list[Fault] = field(default_factory=list)

    def fault_counts(self) -> Counter[str]:
        """The requests that broke, by kind."""
        if not self.faults:
            return Counter()
        return Counter(fault.kind for fault in self.faults)


class Endpoint:
    """Safe to call concurrently, from one event loop at a time.

    Args:
        label: what to call it in messages, such as "tool 'search'".
        headers: the user's, sent with every request.
        notify: told when it goes down and when it answers again.
        forbids_things: whether a 403 may be about what was asked for, rather than about the credential.

    Attributes:
        counters: since it was made: "requests", "retries", "rate_limit_waits" and "outage_waits".

    Raises:
        UserError: the headers cannot be sent.
    """

    def __init__(
        self,
        label: str,
        url: str,
        headers: Mapping[str, str],
        traffic: Traffic,
        notify: Notify = notify_nobody,
        *,
        forbids_things: bool = False,
    ) -> None:
        self.label = label
        self.traffic = traffic
        self.counters: Counter[str] = Counter()
        where = f"{label} at {URL(url).host_port_subcomponent}"
        self.gate = new_gate(label, where, traffic, notify, forbids_things=forbids_things)
        check_headers(label, headers, url)
        self.redactor = Redactor(headers, url)
        self.public_url = public_url(url)
        self._headers = with_content_type(headers)
        self._target = URL(url)
        # Time in which requests are out or the call waits to repeat them; waiting for the endpoint is bounded apart.
        self.deadline_s = (
            (traffic.retries + 1) * traffic.timeout_s + traffic.retries * MAX_BACKOFF_S + RATE_LIMIT_DEADLINE_S
        )
        self._notify = notify
        self._timeout = aiohttp.ClientTimeout(total=traffic.timeout_s)
        self._refuses_link_local = refuses_link_local()
        self._session: aiohttp.ClientSession | None = None
        self._session_loop: asyncio.AbstractEventLoop | None = None

    async def send(
        self,
        body: bytes,
        headers: Mapping[str, str],
        read: Callable[[Answer], T | Fault],
        *,
        trace_id: str,
        asks_for: Callable[[], Hashable] | None = None,
    ) -> Sent[T]:
        """POST until there is a verdict.

        Args:
            headers: of this call, beside the user's; the same for every repetition.
            read: what an answer means that no status above 299 but 4xx has; runs at once, and may find a fault in it.
            trace_id: for the log.
            asks_for: what the call is about, whoever makes it; None for its body.
        """
        traffic = self.traffic
        backoff_s = BACKOFF_S if traffic.backoff_s is None else traffic.backoff_s
        budget = RetryBudget(retries=traffic.retries, idempotent=traffic.idempotent, backoff_s=backoff_s)
        clock = _CallClock(self.deadline_s, Caller(asks_for or (lambda: body)))
        all_headers = {**self._headers, **headers}
        sent: Sent[T] = Sent(Fault("timeout", ""))
        while True:
            fault = await self._attempt(sent, body, all_headers, read, clock)
            if fault is None:
                return sent
            wait_s = budget.wait_s(fault, endpoint_is_down=self.gate.is_down)
            if wait_s is None:
                sent.verdict = replace(fault, message=shorten(fault.message))
                return sent
            waits = "rate_limit_waits" if fault.kind == "rate_limited" else "retries"
            self.counters["outage_waits" if self.gate.is_down else waits] += 1
            logger.info("%s: %s: %s, again in %.2f s", trace_id, self.label, fault.kind, wait_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    async def connect(self) -> None:
        """Open a connection, and close it again: whether there is a server, without asking it anything.

        Raises:
            EndpointError: there is none, or none that TLS trusts.
        """
        problem = await connect(self._target, timeout_s=CONNECT_TIMEOUT_S, refuse_link_local=self._refuses_link_local)
        if problem is not None:
            raise EndpointError(
                f"{self.label}: {self.public_url} cannot be reached: {shorten(self.redactor.message(problem))}",
                "Start the server, and check the host and port in its URL.",
            )

    async def try_out(
        self, body: bytes, headers: Mapping[str, str], read: Callable[[Answer], T | Fault], *, is_sure: bool
    ) -> None:
        """Make one call as a rollout would, and look at its answer. What may pass by itself is a warning.

        Args:
            is_sure: the call is one that the endpoint must take.

        Raises:
            EndpointError: the answer says that the headers or the URL are wrong.
        """
        answer = await self.exchange(body, {**self._headers, **headers}, self.traffic.timeout_s)
        if isinstance(answer, Fault):
            fault = answer
        else:
            complaint = trial_complaint(answer, is_sure=is_sure)
            if complaint is not None:
                what, remedy = complaint
                said = self.redactor.message(what)
                raise EndpointError(f"{self.label}: {self.public_url} answered a first call with {said}.", remedy)
            fault = fault_of(answer)
            if fault is None:
                verdict = read(answer)
                fault = verdict if isinstance(verdict, Fault) else None
                if fault is None and is_sure and answer.status >= 400:
                    fault = Fault("client_error", f"HTTP {answer.status}")
            self.gate.took_credential(answer.status not in CREDENTIAL_STATUSES and answer.status < 500)
        if fault is not None:
            said = shorten(self.redactor.message(fault.message))
            self._notify("warning", f"{self.label}: a first call was not answered as calls of rollouts must be: {said}")

    async def send_once(
        self, body: bytes, headers: Mapping[str, str], read: Callable[[Answer], T | Fault]
    ) -> T | Fault:
        """POST once, past every limit and without repetition: to find out what the endpoint bears."""
        answer = await self.exchange(body, {**self._headers, **headers}, self.traffic.timeout_s)
        fault = answer if isinstance(answer, Fault) else fault_of(answer)
        verdict = read(answer) if fault is None and isinstance(answer, Answer) else fault
        if isinstance(verdict, Fault):
            return replace(verdict, message=shorten(self.redactor.message(verdict.message)))
        assert verdict is not None
        return verdict

    async def exchange(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer | Fault:
        """One HTTP exchange, without limits and retries; every way that it can break becomes a fault."""
        # One object for almost all calls.
        timeout = self._timeout if timeout_s == self.traffic.timeout_s else aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._open_session().post(
                self._target, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await read_bounded(response))
        except aiohttp.ClientConnectorError as error:
            return Fault("connection", str(error), transient=True, may_have_arrived=False, is_outage=True)
        except TimeoutError:
            return Fault("timeout", f"no answer within {timeout_s:g} s", transient=True)
        except aiohttp.ClientPayloadError as error:
            return Fault("bad_answer", f"the answer broke off: {error}", transient=True)
        except aiohttp.ClientResponseError as error:
            return Fault("bad_answer", f"the answer is not valid HTTP: {error.message}")
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            return Fault("connection", f"{type(error).__name__}: {error}", transient=True)

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        await self.gate.close()
        session, self._session, self._session_loop = self._session, None, None
        if session is not None:
            await session.close()

    async def _attempt(
        self,
        sent: Sent[T],
        body: bytes,
        headers: Mapping[str, str],
        read: Callable[[Answer], T | Fault],
        clock: "_CallClock",
    ) -> Fault | None:
        """One attempt, once the endpoint takes it. The fault that it ended with, or None: `sent` has the verdict.

        A fault before anything is sent did not arrive, and no attempt before it did where that mattered: what may have
        arrived is sent again for idempotent calls only.
        """
        try:
            admission = await self._enter(clock, is_repeated=sent.attempts > 0)
        except OutageError as outage:
            last = sent.faults[-1].message if sent.faults else "calls before this one found it so"
            return Fault(outage.kind, f"{outage}: {last}", may_have_arrived=False)
        except TimeoutError as error:
            message = f"no free slot within {QUEUE_DEADLINE_S:g} s; now {error}"
            return Fault("timeout", message, may_have_arrived=False)
        if admission is None:
            return DOWN_AGAIN
        left_s = clock.left_s()
        if left_s <= 0:
            self.gate.give_back(clock.caller, admission)
            return Fault("timeout", f"the call's deadline of {self.deadline_s:g} s has passed")
        sent.attempts += 1
        self.counters["requests"] += 1
        verdict = await self._request(body, headers, min(self.traffic.timeout_s, left_s), read, clock, admission)
        if not isinstance(verdict, Fault):
            sent.verdict = verdict
            return None
        fault = replace(verdict, message=self.redactor.message(verdict.message))
        sent.faults.append(fault)
        return fault

    async def _enter(self, clock: "_CallClock", *, is_repeated: bool) -> Admission | None:
        """Pass the gate, and count the time without that in which the endpoint was down. Raises as `Gate.enter`."""
        began, waited_s = time.monotonic(), clock.caller.waited_s
        admission = await self.gate.enter(
            clock.caller,
            is_repeated=is_repeated,
            queue_left_s=QUEUE_DEADLINE_S - clock.queued_s,
            outage_deadline_s=self.traffic.outage_deadline_s,
        )
        clock.queued_s += time.monotonic() - began - (clock.caller.waited_s - waited_s)
        return admission

    async def _request(
        self,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        read: Callable[[Answer], T | Fault],
        clock: "_CallClock",
        admission: Admission,
    ) -> T | Fault:
        """One request that the gate let through: tell it what came of that, and read the answer."""
        started = time.monotonic()
        try:
            answer = await self.exchange(body, headers, timeout_s)
        except BaseException:  # such as a call that is cancelled: another may go out
            self.gate.give_back(clock.caller, admission)
            raise
        is_answer = isinstance(answer, Answer)
        fault = fault_of(answer) if is_answer else answer
        fault = await self.gate.leave(clock.caller, admission, Seen(fault, is_answer, time.monotonic() - started))
        if isinstance(answer, Fault) or fault is not None:
            assert fault is not None
            return fault
        return read(answer)

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session_loop is not loop:
            # The limiter bounds the connections. A kept connection may be closed by the server just as a request
            # goes out, and then nobody knows whether it arrived: for what may not repeat, a new one each.
            connector = aiohttp.TCPConnector(
                limit=0, force_close=not self.traffic.idempotent, resolver=resolver(self._refuses_link_local)
            )
            # No cookies: they would carry state from one rollout into another.
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            self._session_loop = loop
        return self._session


class _CallClock:
    """A call's time against its deadline, in seconds, without the time spent waiting for the endpoint.

    Attributes:
        queued_s: waiting for a slot.
        caller: the call as the breaker knows it, which counts the waiting for an endpoint that is down.
    """

    def __init__(self, deadline_s: float, caller: Caller) -> None:
        self.queued_s = 0.0
        self.caller = caller
        self._deadline_s = deadline_s
        self._started = time.monotonic()

    def left_s(self) -> float:
        return self._deadline_s - (time.monotonic() - self._started - self.queued_s - self.caller.waited_s)
