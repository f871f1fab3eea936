"""The user's own begin and end of a rollout: a server can make a sandbox for each, and drop it again."""

import logging
from typing import Any

from agentrft import wire
from agentrft.spec import HookSpec
from agentrft.tools.base import ToolFailure
from agentrft.tracing import outgoing_headers
from agentrft.traffic import Answer, Endpoint, Fault, Notify, Traffic, notify_nobody

logger = logging.getLogger(__name__)

# A job that is asked to stop waits for its ends.
END_OUTAGE_DEADLINE_S = 20.0


class RolloutHooks:
    """Posts `{"type": "rollout_start", "trace_id", "attempt", "item"}` and `{"type": "rollout_end", "trace_id",
    "attempt", "outcome"}`, each exactly once for every attempt at a rollout.

    Neither is sent again where it may have arrived. A start that is not answered by 2xx fails the attempt; an end that
    is not is logged.

    Raises:
        UserError: headers cannot be sent.
    """

    def __init__(self, start: HookSpec | None, end: HookSpec | None, *, notify: Notify = notify_nobody) -> None:
        self._start = None if start is None else _endpoint("on_rollout_start", start, notify, 600.0)
        self._end = None if end is None else _endpoint("on_rollout_end", end, notify, END_OUTAGE_DEADLINE_S)
        self._not_begun: set[tuple[str, int]] = set()

    async def begin(self, *, trace_id: str, attempt: int, item: dict[str, Any]) -> None:
        """Raises ToolFailure, of kind "hook"."""
        if self._start is None:
            return
        body = {"type": "rollout_start", "trace_id": trace_id, "attempt": attempt, "item": item}
        fault = await _post(self._start, body)
        if fault is not None:
            if not fault.may_have_arrived:
                self._not_begun.add((trace_id, attempt))
            message = f"{fault.kind}: {fault.message}"
            raise ToolFailure("on_rollout_start", "hook", message, 0, faults={"hook": 1})

    async def end(self, *, trace_id: str, attempt: int, outcome: str) -> None:
        """Raises nothing."""
        if self._end is None:
            return
        if (trace_id, attempt) in self._not_begun:
            self._not_begun.remove((trace_id, attempt))
            return
        body = {"type": "rollout_end", "trace_id": trace_id, "attempt": attempt, "outcome": outcome}
        fault = await _post(self._end, body)
        if fault is not None:
            logger.warning("%s: on_rollout_end: %s: %s", trace_id, fault.kind, fault.message)

    async def probe(self) -> None:
        """Connect to them, and tell them nothing. Raises EndpointError where nothing is there."""
        for endpoint in (self._start, self._end):
            if endpoint is not None:
                await endpoint.connect()

    async def close(self) -> None:
        for endpoint in (self._start, self._end):
            if endpoint is not None:
                await endpoint.close()


def _endpoint(label: str, spec: HookSpec, notify: Notify, outage_deadline_s: float) -> Endpoint:
    traffic = Traffic(
        timeout_s=spec.timeout_s,
        max_concurrency=spec.max_concurrency,
        retries=3,
        idempotent=False,
        outage_deadline_s=outage_deadline_s,
    )
    return Endpoint(label, str(spec.url), spec.headers, traffic, notify)


async def _post(endpoint: Endpoint, body: dict[str, Any]) -> Fault | None:
    trace_id, attempt = body["trace_id"], str(body["attempt"])
    headers = {"X-Trace-Id": trace_id, "X-Attempt": attempt, "Idempotency-Key": f"{trace_id}-{attempt}-{body['type']}"}
    headers |= outgoing_headers()
    sent = await endpoint.send(wire.dump(body).encode(), headers, _read, trace_id=trace_id)
    return sent.verdict if isinstance(sent.verdict, Fault) else None


def _read(answer: Answer) -> bool | Fault:
    return True if answer.status < 300 else Fault("client_error", f"HTTP {answer.status}")
