"""When a failed request is sent again, and after how long."""

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_BACKOFF_S = 30.0
MAX_RATE_LIMIT_WAITS = 10
RATE_LIMIT_DEADLINE_S = 120.0
CREDENTIAL_REFUSED = "credential_refused"
SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Fault:
    """Why one request brought nothing.

    Attributes:
        kind: a short reason for counting: "timeout", "server_error", "connection", "rate_limited", "redirect",
            "bad_answer", "outage" (the endpoint was down for longer than a call waits), "credential_refused" (401, 403
            or 407).
        transient: the same request may succeed later.
        may_have_arrived: the endpoint may have acted on it; False only when no connection came about.
        retry_after_s: the endpoint's own wish, in seconds.
        overloaded: the endpoint asks for fewer requests at once.
        is_forbidden: a 403, which may be about what was asked for and not about the credential.
        is_outage: the endpoint's, whatever was asked for: no connection came about, or a gateway had nobody behind it.
    """

    kind: str
    message: str
    transient: bool = False
    may_have_arrived: bool = True
    retry_after_s: float | None = None
    overloaded: bool = False
    is_forbidden: bool = False
    is_outage: bool = False


class RetryBudget:
    """What one call has left of its retries and its patience with 429.

    Args:
        retries: the most repetitions after faults other than 429.
        idempotent: False: never repeat what may have arrived.
        backoff_s: base of the exponential backoff with full jitter: the n-th wait is uniform in
            [0, backoff_s * 2^(n-1)], capped at `MAX_BACKOFF_S`.
    """

    def __init__(self, *, retries: int, idempotent: bool, backoff_s: float) -> None:
        self.retries = retries
        self.idempotent = idempotent
        self.backoff_s = backoff_s
        self.retries_used = 0
        self.rate_limit_waits = 0
        self.rate_limited_s = 0.0

    def wait_s(self, fault: Fault, *, endpoint_is_down: bool = False) -> float | None:
        """Seconds to wait before the next request, or None: give up.

        Args:
            endpoint_is_down: the breaker does the waiting, and no retry is used up.
        """
        if not fault.transient or (fault.may_have_arrived and not self.idempotent):
            return None
        if fault.kind == "outage" or (endpoint_is_down and self.retries > 0):
            return 0.0
        if fault.kind == "rate_limited":
            return self._rate_limit_wait_s(fault)
        if self.retries_used >= self.retries:
            return None
        self.retries_used += 1
        return max(self._jitter_s(self.retries_used), min(fault.retry_after_s or 0.0, MAX_BACKOFF_S))

    def _rate_limit_wait_s(self, fault: Fault) -> float | None:
        left_s = RATE_LIMIT_DEADLINE_S - self.rate_limited_s
        if self.rate_limit_waits >= MAX_RATE_LIMIT_WAITS or left_s <= 0:
            return None
        self.rate_limit_waits += 1
        # The jitter keeps calls that were refused together from coming back together. Where the endpoint says when to
        # come back there need be little of it: the limit on its concurrency, lower by now, does the rest.
        if fault.retry_after_s is None:
            asked_s = self._jitter_s(self.rate_limit_waits)
        else:
            asked_s = fault.retry_after_s + random.uniform(0, min(self.backoff_s, 0.02 + 0.1 * fault.retry_after_s))
        wait_s = min(left_s, asked_s)
        self.rate_limited_s += wait_s
        return wait_s

    def _jitter_s(self, nth: int) -> float:
        return random.uniform(0, min(MAX_BACKOFF_S, self.backoff_s * 2 ** (nth - 1)))


def retry_after_s(value: str | None) -> float | None:
    """The `Retry-After` header in seconds from now (RFC 9110, 10.2.3: seconds or a date), None if there is none."""
    if value is None:
        return None
    value = value.strip()
    if SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
