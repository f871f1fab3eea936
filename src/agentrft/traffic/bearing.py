"""What an endpoint is asked to bear, as its spec says."""

from dataclasses import dataclass
from typing import Protocol


class Bearing(Protocol):
    """A spec of something behind a URL; the fields as in `Traffic`."""

    @property
    def timeout_s(self) -> float: ...
    @property
    def max_concurrency(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def rate_limit(self) -> float | None: ...
    @property
    def outage_deadline_s(self) -> float: ...


@dataclass(frozen=True)
class Traffic:
    """What an endpoint is asked to bear.

    Attributes:
        timeout_s: of one attempt.
        max_concurrency: requests in flight, at most.
        retries: of a call after faults other than 429, at most.
        idempotent: False: what may have arrived is never sent again.
        rate_limit: requests per second.
        outage_deadline_s: how long a call waits, in all, for the endpoint to come back once it is down.
        backoff_s: base of the exponential backoff between attempts; None for `BACKOFF_S`.
    """

    timeout_s: float
    max_concurrency: int
    retries: int
    idempotent: bool = True
    rate_limit: float | None = None
    outage_deadline_s: float = 600.0
    backoff_s: float | None = None

    @classmethod
    def of(cls, spec: Bearing, *, idempotent: bool = True, backoff_s: float | None = None) -> "Traffic":
        """What a spec says that an endpoint bears."""
        return cls(
            timeout_s=spec.timeout_s,
            max_concurrency=spec.max_concurrency,
            retries=spec.retries,
            idempotent=idempotent,
            rate_limit=spec.rate_limit,
            outage_deadline_s=spec.outage_deadline_s,
            backoff_s=backoff_s,
        )
