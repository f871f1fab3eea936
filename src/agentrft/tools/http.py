"""An HTTP tool: the model's call to a request, the endpoint's answer to text, counted."""

import logging
import time
import uuid
from typing import Any

from agentrft.spec import HttpToolSpec
from agentrft.tools import wire
from agentrft.tools.base import ToolCall, ToolFailure, ToolResult, TrialCall
from agentrft.tracing import outgoing_headers
from agentrft.traffic import MAX_BODY_BYTES, Endpoint, Fault, Notify, Traffic, notify_nobody
from agentrft.wire import dump

logger = logging.getLogger(__name__)


class HttpTool:
    """A tool behind a URL of the user's. Safe to call concurrently, from one event loop at a time.

    Args:
        spec: the tool as the job declares it.
        backoff_s: base of the exponential backoff between attempts.
        notify: told when the endpoint goes down and when it answers again.

    Attributes:
        counters: what happened since the tool was made: "requests", "retries", "rate_limit_waits", "outage_waits",
            "ok", "too_large", "client_error:<HTTP status>", "redacted" (answers that held a secret) and
            "failure:<kind>".

    Raises:
        UserError: the headers cannot be sent.
    """

    def __init__(self, spec: HttpToolSpec, *, backoff_s: float | None = None, notify: Notify = notify_nobody) -> None:
        self.name = spec.name
        self.description = spec.description
        self.parameters = spec.parameters
        self.idempotent = spec.may_repeat
        self.reads_item = spec.format == "function_call"
        self.spec = spec
        self._notify = notify
        self._has_answered = False
        traffic = Traffic.of(spec, idempotent=spec.may_repeat, backoff_s=backoff_s)
        label, url = f"tool '{spec.name}'", str(spec.server_url)
        self.endpoint = Endpoint(label, url, spec.headers, traffic, notify, forbids_things=True)
        self.counters = self.endpoint.counters
        self._read = wire.read_plain_answer if spec.format == "plain" else wire.read_answer

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
        body = self._body(call, trace_id, item)
        if len(body) > MAX_BODY_BYTES:
            self.counters["too_large"] += 1
            reading = wire.request_too_large(len(body))
            return ToolResult(reading.output, reading.status, time.monotonic() - started, attempts=0)
        headers = wire.request_headers(trace_id=trace_id, call_id=call.call_id, attempt=attempt) | outgoing_headers()
        sent = await self.endpoint.send(
            body, headers, self._read, trace_id=trace_id, asks_for=lambda: (call.arguments, dump(item))
        )
        verdict = sent.verdict
        if isinstance(verdict, Fault):
            self.counters[f"failure:{verdict.kind}"] += 1
            # Raised outside any except block: an exception of aiohttp would carry the request's headers along.
            repeatable = self.idempotent or not verdict.may_have_arrived
            failure = ToolFailure(
                self.name,
                verdict.kind,
                verdict.message,
                sent.attempts,
                faults=sent.fault_counts(),
                repeatable=repeatable,
            )
            logger.warning("%s: %s after %d requests", trace_id, failure, sent.attempts)
            raise failure
        self._warn_of_a_path(verdict.http_status)
        counted = f"client_error:{verdict.http_status}" if verdict.status == "client_error" else verdict.status
        self.counters[counted] += 1
        output = self.endpoint.redactor.output(verdict.output)
        if output != verdict.output:
            self.counters["redacted"] += 1
        return ToolResult(output, verdict.status, time.monotonic() - started, sent.attempts, sent.fault_counts())

    async def call_once(self, call: ToolCall, *, trace_id: str, item: dict[str, Any]) -> wire.Reading | Fault:
        """One request past every limit and without repetition: to find out what the endpoint bears."""
        headers = wire.request_headers(trace_id=trace_id, call_id=call.call_id, attempt=1)
        return await self.endpoint.send_once(self._body(call, trace_id, item), headers, self._read)

    async def probe(self, trial: TrialCall | None) -> None:
        """Connect to the endpoint; make the call, where one is given, as a rollout would.

        Raises:
            EndpointError: nothing is there, or the answer says that the headers or the URL are wrong.
        """
        await self.endpoint.connect()
        if trial is None:
            return
        trace_id = f"trace_{uuid.uuid4().hex}"
        headers = wire.request_headers(trace_id=trace_id, call_id=trial.call.call_id, attempt=1)
        await self.endpoint.try_out(
            self._body(trial.call, trace_id, trial.item), headers, self._read, is_sure=trial.is_example
        )

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        await self.endpoint.close()

    def _warn_of_a_path(self, status: int | None) -> None:
        """Tell of a first answer that the model reads, and that may mean a mistake in the URL."""
        if status in (404, 405) and not self._has_answered:
            self._notify(
                "warning",
                f"tool '{self.name}': {self.endpoint.public_url} answered its first call with HTTP {status}, which the "
                "model reads; if nothing takes a POST there, correct the path in its URL",
            )
        self._has_answered = True

    def _body(self, call: ToolCall, trace_id: str, item: dict[str, Any]) -> bytes:
        plain = self.spec.format == "plain"
        return wire.plain_body(call) if plain else wire.request_body(call, trace_id=trace_id, item=item)
