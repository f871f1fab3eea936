"""Talking to the user's endpoints: what protects them from a burst, and a job from their failures."""

from agentrft.traffic.bearing import Traffic
from agentrft.traffic.breaker import Breaker, Notify, OutageError, notify_nobody
from agentrft.traffic.endpoint import Endpoint, Sent
from agentrft.traffic.http import CREDENTIAL_STATUSES, MAX_BODY_BYTES, Answer, shorten
from agentrft.traffic.limiter import AdaptiveLimiter
from agentrft.traffic.redaction import Redactor, public_url
from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault, RetryBudget
from agentrft.traffic.waiting import Caller

__all__ = [
    "CREDENTIAL_REFUSED",
    "CREDENTIAL_STATUSES",
    "MAX_BODY_BYTES",
    "AdaptiveLimiter",
    "Answer",
    "Breaker",
    "Caller",
    "Endpoint",
    "Fault",
    "Notify",
    "OutageError",
    "Redactor",
    "RetryBudget",
    "Sent",
    "Traffic",
    "notify_nobody",
    "public_url",
    "shorten",
]
