"""OpenTelemetry spans of rollouts, turns, tool calls, grades and updates, where the OTel variables ask for them.

Whoever does something says so by `span`. Without a tracer that costs a look at a context variable, and no import.
"""

from agentrft.tracing.opening import Tracing, open_tracing
from agentrft.tracing.spans import Attributes, Span, outgoing_headers, span, span_attributes, tracing, with_attributes

__all__ = [
    "Attributes",
    "Span",
    "Tracing",
    "open_tracing",
    "outgoing_headers",
    "span",
    "span_attributes",
    "tracing",
    "with_attributes",
]
