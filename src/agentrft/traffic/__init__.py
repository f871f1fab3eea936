"""Talking to the user's endpoints: what protects them from a burst, and a job from their failures."""

from agentrft.traffic.bearing import Traffic
from agentrft.traffic.breaker import Breaker, Notify, OutageError, notify_nobody
from agentrft.traffic.endpoint import Endpoint, Sent
from agentrft.traffic.gate import Admission, Gate, Gates, Seen, having_gates
from agentrft.traffic.http import CREDENTIAL_STATUSES, MAX_BODY_BYTES, Answer, shorten
from agentrft.traffic.limiter import AdaptiveLimiter
from agentrft.traffic.redaction import Redactor, public_url
from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault, RetryBudget
from agentrft.traffic.waiting import Caller, CallerState

__all__ = [
    "CREDENTIAL_REFUSED",
    "CREDENTIAL_STATUSES",
    "MAX_BODY_BYTES",
    "AdaptiveLimiter",
    "Admission",
    "Answer",
    "Breaker",
    "Caller",
    "CallerState",
    "Endpoint",
    "Fault",
    "Gate",
    "Gates",
    "Notify",
    "OutageError",
    "Redactor",
    "RetryBudget",
    "Seen",
    "Sent",
    "Traffic",
    "having_gates",
    "notify_nobody",
    "public_url",
    "shorten",
]
