"""The endpoint grader: the user's own grading server, over HTTP (DESIGN section 6)."""

import asyncio
import itertools
import json
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from agentrft.errors import UserError
from agentrft.graders.base import Grade, GraderFailure, GraderSample
from agentrft.graders.scores import finite_score
from agentrft.spec.graders import EndpointGraderSpec

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
MAX_RETRY_AFTER_S = 60.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_BODY_SHOWN = 300
MIN_SECRET_LENGTH = 4


@dataclass(frozen=True)
class _Broken:
    """An attempt without a usable answer. `transient`: the same request may succeed later."""

    kind: str
    message: str
    transient: bool = True
    retry_after_s: float | None = None


class EndpointGrader:
    """POSTs `{"sample", "item", "trace_id"}` to the user's server, which answers `{"score": float}`.

    The answer may also hold `reason` and `sub_scores`. Answers of 5xx and 429, time-outs and broken connections are
    retried as often as the spec says, with backoff, or as `Retry-After` says; redirects are not followed.
    `pass_threshold` is recorded and changes no score. Used from one event loop.

    Raises:
        UserError: a header cannot be sent.
    """

    def __init__(self, spec: EndpointGraderSpec) -> None:
        self.name = spec.name
        self.pass_threshold = spec.pass_threshold
        self._spec = spec
        self._url = str(spec.url)
        # Without credentials, path parameters and query: those may hold keys.
        self._shown_url = f"{spec.url.scheme}://{spec.url.host}:{spec.url.port}{spec.url.path or ''}"
        for header, value in spec.headers.items():
            if any(character in header + value for character in "\r\n\0"):
                raise UserError(
                    f"grader '{spec.name}': headers: the value of {header!r} holds a line break.",
                    "Write it in one line.",
                )
        self._in_flight = asyncio.Semaphore(spec.max_concurrency)
        self._next_send = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: after the retries "server_error", "timeout", "connection" or "rate_limited"; at once
                "client_error" (4xx), "redirect", or "bad_answer" (no JSON object with a finite `score`).
        """
        started = time.perf_counter()
        body = json.dumps({"sample": sample.as_template_value(), "item": item, "trace_id": trace_id}).encode()
        broken: list[_Broken] = []
        async with self._in_flight:
            answer = await self._post(body, trace_id, broken)
        try:
            return self._grade_of(answer, broken, latency_s=time.perf_counter() - started)
        except GraderFailure as failure:
            failure.faults = dict(Counter(failure.faults) + Counter(_faults(broken)))
            raise

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes, trace_id: str, broken: list[_Broken]) -> bytes:
        """The answer's body. Attempts that were repeated are added to `broken`."""
        attempts = self._spec.retries + 1
        for attempt in itertools.count(1):
            await self._wait_for_rate()
            answer = await self._attempt(body, trace_id)
            if isinstance(answer, bytes):
                return answer
            broken.append(answer)
            if attempt == attempts or not answer.transient:
                message = f"{self._shown_url}: {answer.message}, {attempt} attempt(s)"
                raise GraderFailure(self.name, answer.kind, message, faults=_faults(broken))
            wait_s = _backoff_s(attempt) if answer.retry_after_s is None else answer.retry_after_s
            logger.info(
                "grader '%s': %s: attempt %d of %d: %s; next in %.1f s",
                *(self.name, trace_id, attempt, attempts, answer.kind, wait_s),
            )
            await asyncio.sleep(wait_s)
        raise AssertionError("the loop above ends by returning or raising")

    async def _attempt(self, body: bytes, trace_id: str) -> bytes | _Broken:
        """One request. Returns the body of a 2xx answer, or why there is none."""
        headers = {"Content-Type": "application/json", **self._spec.headers, "X-Trace-Id": trace_id}
        timeout = aiohttp.ClientTimeout(total=self._spec.timeout_s)
        try:
            async with self._client().post(
                self._url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                content = await _read_bounded(response)
        except TimeoutError:
            return _Broken("timeout", f"no answer within {self._spec.timeout_s} s")
        except (aiohttp.ClientError, ConnectionError) as error:
            return _Broken("connection", self._redacted(f"{type(error).__name__}: {error}"))
        status = response.status
        if status == 429:
            wait_s = _retry_after_s(response.headers.get("Retry-After"))
            return _Broken("rate_limited", "answered 429", retry_after_s=wait_s)
        if status >= 500:
            return _Broken("server_error", f"answered {status}: {self._shown(content)}")
        if status >= 400:
            return _Broken("client_error", f"{status}: {self._shown(content)}", transient=False)
        if status >= 300:
            return _Broken("redirect", f"answered {status}; give the final URL", transient=False)
        if content is None:
            message = f"the answer is longer than {MAX_ANSWER_BYTES} bytes"
            return _Broken("bad_answer", message, transient=False)
        return content

    def _grade_of(self, content: bytes, broken: list[_Broken], *, latency_s: float) -> Grade:
        try:
            answer = json.loads(content)
        except ValueError as error:
            message = f"{self._shown_url}: the answer is not JSON: {self._shown(content)}"
            raise GraderFailure(self.name, "bad_answer", message) from error
        if not isinstance(answer, dict) or "score" not in answer:
            message = f"{self._shown_url}: expected an object with 'score': {self._shown(content)}"
            raise GraderFailure(self.name, "bad_answer", message)
        score = finite_score(answer["score"], grader=self.name, what="'score'")
        sub_scores = answer.get("sub_scores") or {}
        if not isinstance(sub_scores, dict):
            raise GraderFailure(self.name, "bad_answer", f"{self._shown_url}: expected an object as 'sub_scores'")
        reason = answer.get("reason")
        if reason is not None and not isinstance(reason, str):
            reason = json.dumps(reason, ensure_ascii=False)
        return Grade(
            score=score,
            sub_scores={
                name: finite_score(value, grader=self.name, what=f"sub_scores.{name}")
                for name, value in sub_scores.items()
            },
            reason=None if reason is None else self._redacted(reason),
            errors=[f"{attempt.kind}: {attempt.message}" for attempt in broken],
            faults=_faults(broken),
            latency_s=latency_s,
        )

    async def _wait_for_rate(self) -> None:
        """Wait for the next of the evenly spaced sending times that `rate_limit` allows."""
        if self._spec.rate_limit is None:
            return
        now = time.monotonic()
        send_at = max(now, self._next_send)
        self._next_send = send_at + 1.0 / self._spec.rate_limit
        if send_at > now:
            await asyncio.sleep(send_at - now)

    def _client(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the event loop that runs then. Concurrency is bounded above it.
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _shown(self, content: bytes | None) -> str:
        text = (content or b"").decode(errors="replace")
        return self._redacted(text)[:MAX_BODY_SHOWN] or "(empty body)"

    def _redacted(self, text: str) -> str:
        """Servers echo what they were sent: header values are taken out again."""
        for value in self._spec.headers.values():
            # "Bearer KEY" may come back as "KEY" only.
            for secret in (value, *value.split()):
                if len(secret) >= MIN_SECRET_LENGTH:
                    text = text.replace(secret, "[header value]")
        return text


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None where it is longer than `MAX_ANSWER_BYTES`."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            response.close()
            return None
    return bytes(content)


def _faults(broken: list[_Broken]) -> dict[str, int]:
    return dict(Counter(attempt.kind for attempt in broken))


def _backoff_s(attempt: int) -> float:
    """Exponential, with full jitter above one half."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def _retry_after_s(header: str | None) -> float | None:
    """Seconds to wait, from either form of the header; None where it is absent or unreadable."""
    if header is None:
        return None
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S) if wait_s == wait_s else None
