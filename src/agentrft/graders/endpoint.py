"""The endpoint grader: the user's own grading server, over HTTP (docs/tools.md)."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from agentrft import wire
from agentrft.graders.base import Grade, GraderFailure, GraderSample
from agentrft.graders.scores import finite_score
from agentrft.spec.graders import EndpointGraderSpec
from agentrft.tracing import outgoing_headers
from agentrft.traffic import MAX_BODY_BYTES, Answer, Endpoint, Fault, Notify, Traffic, notify_nobody, shorten
from agentrft.wire import WireError


@dataclass(frozen=True)
class _Answered:
    """A body that may hold a grade."""

    body: bytes


class EndpointGrader:
    """POSTs `{"sample", "item", "trace_id"}` to the user's server, which answers `{"score": float}`.

    The answer may also hold `reason` and `sub_scores`. The request is repeated as a tool's is: after 5xx, time-outs
    and broken connections as often as the spec says, after 429 as the server asks. `pass_threshold` is recorded and
    changes no score. Used from one event loop.

    Args:
        backoff_s: base of the exponential backoff between attempts.
        notify: told when the server goes down and when it answers again.

    Raises:
        UserError: a header cannot be sent.
    """

    def __init__(
        self, spec: EndpointGraderSpec, *, backoff_s: float | None = None, notify: Notify = notify_nobody
    ) -> None:
        self.name = spec.name
        self.pass_threshold = spec.pass_threshold
        traffic = Traffic.of(spec, backoff_s=backoff_s)
        label = f"grader '{spec.name}'"
        self.endpoint = Endpoint(label, str(spec.url), spec.headers, traffic, notify)

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: after the retries "server_error", "timeout", "connection", "rate_limited", "outage" or
                "credential_refused"; at once "client_error" (other 4xx), "redirect", or "bad_answer" (no JSON object
                with a finite `score`).
        """
        started = time.perf_counter()
        body = wire.dump({"sample": sample.as_payload(), "item": item, "trace_id": trace_id}).encode()
        headers = {"X-Trace-Id": trace_id, **outgoing_headers()}
        sent = await self.endpoint.send(body, headers, _read, trace_id=trace_id)
        verdict = sent.verdict
        if isinstance(verdict, Fault):
            message = f"{self.endpoint.public_url}: {verdict.message}, {sent.attempts} attempt(s)"
            faults = sent.fault_counts() or {verdict.kind: 1}
            raise GraderFailure(self.name, verdict.kind, message, faults=faults)
        try:
            score, sub_scores, reason = self._parsed(verdict.body)
        except GraderFailure as failure:
            failure.faults = dict(sent.fault_counts() + Counter(failure.faults))
            raise
        return Grade(
            score=score,
            sub_scores=sub_scores,
            reason=reason,
            errors=[f"{fault.kind}: {shorten(fault.message)}" for fault in sent.faults],
            faults=dict(sent.fault_counts()),
            latency_s=time.perf_counter() - started,
        )

    async def probe(self) -> None:
        """Connect to the server: a made-up answer to grade might be counted, or stored. Raises EndpointError."""
        await self.endpoint.connect()

    async def close(self) -> None:
        """Close the connections."""
        await self.endpoint.close()

    def _parsed(self, body: bytes) -> tuple[float, dict[str, float], str | None]:
        """Score, sub-scores and reason; raises GraderFailure "bad_answer"."""
        try:
            answer = wire.parse(body, lossy=True)
        except WireError as error:
            raise self._bad_answer(f"the answer cannot be read: {error}", body) from error
        if not isinstance(answer, dict) or "score" not in answer:
            raise self._bad_answer("expected an object with 'score'", body)
        sub_scores = answer.get("sub_scores") or {}
        if not isinstance(sub_scores, dict):
            raise self._bad_answer("expected an object as 'sub_scores'", body)
        reason = answer.get("reason")
        if reason is not None and not isinstance(reason, str):
            reason = wire.dump(reason)
        return (
            finite_score(answer["score"], grader=self.name, what="'score'"),
            {
                name: finite_score(value, grader=self.name, what=f"sub_scores.{name}")
                for name, value in sub_scores.items()
            },
            None if reason is None else self.endpoint.redactor.message(reason),
        )

    def _bad_answer(self, problem: str, body: bytes) -> GraderFailure:
        found = self.endpoint.redactor.message(body.decode(errors="replace")) or "(empty body)"
        return GraderFailure(self.name, "bad_answer", f"{self.endpoint.public_url}: {problem}: {shorten(found)}")


def _read(answer: Answer) -> _Answered | Fault:
    if answer.status >= 400:
        text = (answer.body or b"").decode(errors="replace").strip()
        return Fault("client_error", f"HTTP {answer.status}: {text or '(empty body)'}")
    if answer.body is None:
        return Fault("bad_answer", f"the answer is longer than {MAX_BODY_BYTES} bytes")
    return _Answered(answer.body)
