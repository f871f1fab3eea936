"""Talking to the user's endpoints: what protects them from a burst, and a job from their failures."""

from agentrft.traffic.breaker import Notify, notify_nobody
from agentrft.traffic.endpoint import Endpoint, Sent, Traffic
from agentrft.traffic.http import MAX_BODY_BYTES, Answer, shorten
from agentrft.traffic.redaction import Redactor, public_url
from agentrft.traffic.retry import Fault

__all__ = [
    "MAX_BODY_BYTES",
    "Answer",
    "Endpoint",
    "Fault",
    "Notify",
    "Redactor",
    "Sent",
    "Traffic",
    "notify_nobody",
    "public_url",
    "shorten",
]
