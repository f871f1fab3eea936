"""Calling one HTTP tool endpoint: bounded concurrency, deadlines, retries, and counts of all of it.

A call is a loop of attempts. Each waits for a slot of the endpoint, sends one request, and reads the answer as
text for the model or as a fault; a fault is repeated as long as the call's retry budget allows, and then raised.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from agentrft.errors import EndpointError, UserError
from agentrft.spec import ToolSpec
from agentrft.tools import wire
from agentrft.tools.base import ToolCall, ToolFailure, ToolResult
from agentrft.tools.limiter import AdaptiveLimiter
from agentrft.tools.redaction import Redactor, public_url
from agentrft.tools.retry import MAX_BACKOFF_S, RATE_LIMIT_DEADLINE_S, Fault, RetryBudget

logger = logging.getLogger(__name__)

QUEUE_DEADLINE_S = 900.0
PROBE_TIMEOUT_S = 15.0


class HttpTool:
    """A tool behind a URL of the user's. Safe to call concurrently, from one event loop at a time.

    Args:
        spec: the tool as the job declares it.
        backoff_s: base of the exponential backoff between attempts.

    Attributes:
        counters: what happened since the tool was made: "requests", "retries", "rate_limit_waits", "ok",
            "too_large", "client_error:<HTTP status>", "redacted" (answers that held a secret) and
            "failure:<kind>".
        limiter: the endpoint's concurrency.

    Raises:
        UserError: the headers cannot be sent.
    """

    def __init__(self, spec: ToolSpec, *, backoff_s: float = 0.5) -> None:
        self.name = spec.name
        self.idempotent = spec.idempotent
        self.spec = spec
        self.backoff_s = backoff_s
        self.counters: Counter[str] = Counter()
        self.limiter = AdaptiveLimiter(spec.max_concurrency)
        self._url = str(spec.server_url)
        self._target = URL(self._url)
        wire.check_headers(spec.name, spec.headers)
        _check_credentials(spec.name, spec.headers, self._url)
        self._redactor = Redactor(spec.headers, self._url)
        # Time in which requests are out or the call waits to repeat them; waiting for a slot is bounded apart.
        self._deadline_s = (spec.retries + 1) * spec.timeout_s + spec.retries * MAX_BACKOFF_S + RATE_LIMIT_DEADLINE_S
        self._session: aiohttp.ClientSession | None = None
        self._session_loop: asyncio.AbstractEventLoop | None = None

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """Run the call at the endpoint.

        Args:
            trace_id: the rollout's id.
            attempt: the rollout's own attempt, sent as `X-Attempt`; HTTP retries do not change it.
            item: the sample's row.

        Raises:
            ToolFailure: after the retries that the tool's spec allows.
        """
        started = time.monotonic()
        body = wire.request_body(call, trace_id=trace_id, item=item)
        if len(body) > wire.MAX_BODY_BYTES:
            self.counters["too_large"] += 1
            reading = wire.request_too_large(len(body))
            return ToolResult(reading.output, reading.status, time.monotonic() - started, attempts=0)
        headers = wire.request_headers(self.spec.headers, trace_id=trace_id, call_id=call.call_id, attempt=attempt)
        faults: Counter[str] = Counter()
        verdict, attempts = await self._attempt(body, headers, trace_id, faults)
        if isinstance(verdict, Fault):
            self.counters[f"failure:{verdict.kind}"] += 1
            # Raised outside any except block: an exception of aiohttp would carry the request's headers along.
            message = wire.shorten(self._redactor.message(verdict.message))
            repeatable = self.spec.idempotent or not verdict.may_have_arrived
            failure = ToolFailure(self.name, verdict.kind, message, attempts, faults=faults, repeatable=repeatable)
            logger.warning("%s: %s after %d requests", trace_id, failure, attempts)
            raise failure
        output = self._redactor.output(verdict.output)
        if output != verdict.output:
            self.counters["redacted"] += 1
        return ToolResult(output, verdict.status, time.monotonic() - started, attempts, faults)

    async def probe(self) -> None:
        """Ask the endpoint, without calling the tool, whether it is there and takes the headers.

        Sends an empty JSON object with the header `X-AgentRFT-Probe: 1`. Any answer but those below will do,
        422 for the missing fields included.

        Raises:
            EndpointError: not reachable, or it answers 401, 403, 404, 405, 3xx or 5xx.
        """
        headers = {**wire.with_content_type(self.spec.headers), wire.PROBE_HEADER: "1"}
        answer = await self._exchange(b"{}", headers, min(self.spec.timeout_s, PROBE_TIMEOUT_S))
        where = f"tool '{self.name}': {public_url(self._url)}"
        if isinstance(answer, Fault):
            cause = f"{where} cannot be used: {wire.shorten(self._redactor.message(answer.message))}"
            raise EndpointError(cause, "Start the server, and check the host and port in `server_url`.")
        complaint = _probe_complaint(answer)
        if complaint is not None:
            what, remedy = complaint
            raise EndpointError(f"{where} answered the probe with {self._redactor.message(what)}.", remedy)

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        session, self._session, self._session_loop = self._session, None, None
        if session is not None:
            await session.close()

    async def _attempt(
        self, body: bytes, headers: Mapping[str, str], trace_id: str, faults: Counter[str]
    ) -> tuple[wire.Reading | Fault, int]:
        """Send until there is a verdict, returned with the number of requests sent; those that broke go to `faults`."""
        budget = RetryBudget(retries=self.spec.retries, idempotent=self.spec.idempotent, backoff_s=self.backoff_s)
        clock = _CallClock(self._deadline_s)
        attempts = 0
        while True:
            clock.enter_queue()
            try:
                async with self.limiter.slot(
                    first=attempts > 0, queue_deadline_s=QUEUE_DEADLINE_S - clock.queued_s
                ) as window:
                    clock.leave_queue()
                    left_s = clock.left_s()
                    if left_s <= 0:
                        return Fault("timeout", f"the call's deadline of {self._deadline_s:g} s has passed"), attempts
                    attempts += 1
                    verdict = await self._request(body, headers, min(self.spec.timeout_s, left_s), window)
            except TimeoutError:
                message = f"no free slot within {QUEUE_DEADLINE_S:g} s; now {int(self.limiter.limit)} slots"
                return Fault("timeout", message), attempts
            if isinstance(verdict, wire.Reading):
                return verdict, attempts
            faults[verdict.kind] += 1
            wait_s = budget.wait_s(verdict)
            if wait_s is None:
                return verdict, attempts
            self.counters["rate_limit_waits" if verdict.kind == "rate_limited" else "retries"] += 1
            logger.info("%s: tool '%s': %s, again in %.2f s", trace_id, self.name, verdict.kind, wait_s)
            await asyncio.sleep(wait_s)

    async def _request(
        self, body: bytes, headers: Mapping[str, str], timeout_s: float, window: int
    ) -> wire.Reading | Fault:
        """One request with a slot in hand: count it, read its answer, and tell the limiter."""
        self.counters["requests"] += 1
        answer = await self._exchange(body, headers, timeout_s)
        if isinstance(answer, Fault):
            return answer
        verdict = wire.read_answer(answer)
        if isinstance(verdict, Fault):
            if verdict.kind == "rate_limited":
                self.limiter.rate_limited(window)
            return verdict
        self.limiter.succeeded()
        counted = f"client_error:{answer.status}" if verdict.status == "client_error" else verdict.status
        self.counters[counted] += 1
        return verdict

    async def _exchange(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> wire.Answer | Fault:
        """One HTTP exchange; every way that it can break becomes a fault."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._open_session().post(
                self._target, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return wire.Answer(response.status, response.headers, await _read_bounded(response))
        except aiohttp.ClientConnectorError as error:
            return Fault("connection", str(error), transient=True, may_have_arrived=False)
        except TimeoutError:
            return Fault("timeout", f"no answer within {timeout_s:g} s", transient=True)
        except aiohttp.ClientPayloadError as error:
            return Fault("bad_answer", f"the answer broke off: {error}", transient=True)
        except aiohttp.ClientResponseError as error:
            return Fault("bad_answer", f"the answer is not valid HTTP: {error.message}")
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            return Fault("connection", f"{type(error).__name__}: {error}", transient=True)

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session_loop is not loop:
            # The limiter bounds the connections. A kept connection may be closed by the server just as a request
            # goes out, and then nobody knows whether it arrived: for tools that may not repeat, a new one each.
            connector = aiohttp.TCPConnector(limit=0, force_close=not self.spec.idempotent)
            # No cookies: they would carry state from one rollout into another.
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            self._session_loop = loop
        return self._session


class _CallClock:
    """A call's time against its deadline, in seconds, without the time spent waiting for slots."""

    def __init__(self, deadline_s: float) -> None:
        self.queued_s = 0.0
        self._deadline_s = deadline_s
        self._started = time.monotonic()
        self._queued_from = self._started

    def enter_queue(self) -> None:
        self._queued_from = time.monotonic()

    def leave_queue(self) -> None:
        self.queued_s += time.monotonic() - self._queued_from

    def left_s(self) -> float:
        return self._deadline_s - (time.monotonic() - self._started - self.queued_s)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None as soon as it is over the limit; the rest is not read."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > wire.MAX_BODY_BYTES:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _probe_complaint(answer: wire.Answer) -> tuple[str, str] | None:
    """What is wrong with the answer to a probe and what to do about it; None if it will do."""
    status = answer.status
    if status in (401, 403):
        return f"{status}: the headers are wrong", "Correct the key or token in the tool's `headers`."
    if status in (404, 405):
        return f"{status}: nothing takes a POST there", "Correct the path in `server_url`; tools are called by POST."
    if 300 <= status < 400:
        return f"{wire.describe_redirect(answer)}, which is not followed", "Give the final address as `server_url`."
    if status >= 500:
        remedy = f"Look at the server's own log; answer a request with {wire.PROBE_HEADER}: 1 with any 2xx or 422."
        return f"{status}: the server has an error", remedy
    return None


def _check_credentials(tool: str, headers: Mapping[str, str], url: str) -> None:
    """HTTP has one Authorization header; credentials in the URL become that header too."""
    if URL(url).user is not None and any(name.lower() == "authorization" for name in headers):
        cause = f"tool '{tool}': `server_url` has credentials and `headers` has Authorization."
        raise UserError(cause, "Keep one of them.")
