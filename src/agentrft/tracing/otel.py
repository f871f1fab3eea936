"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP.

The provider is our own and not the process's global one, which may be of somebody else's. All settings are OTel's
variables: endpoint, headers, sampling, the bounds of the queue.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import INVALID_SPAN, StatusCode, set_span_in_context, use_span
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentrft.tracing.spans import Attributes

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PREFIX = "trace_"
NAME = "OTEL_SERVICE_NAME"

_trace_id: ContextVar[int | None] = ContextVar("agentrft_trace_id", default=None)


class OtelTracing:
    """See `Tracing`."""

    def __init__(self) -> None:
        is_named = bool(os.environ.get(NAME)) or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        given = {} if is_named else {"service.name": "agentrft"}
        self._exporter = _CountingExporter(OTLPSpanExporter())
        self._provider = TracerProvider(
            resource=Resource.create(given), id_generator=_RolloutIds(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("agentrft")
        self._propagator = TraceContextTextMapPropagator()
        self._takes_contents = os.environ.get(CAPTURE, "").lower() in ("true", "span_only", "span_and_event")
        self._ended = 0

    @contextmanager
    def span(self, name: str, attributes: Attributes, trace_id: str | None) -> Iterator["OtelSpan"]:
        token = _trace_id.set(_number(trace_id))
        try:
            # A rollout is the first of its trace.
            context = None if trace_id is None else set_span_in_context(INVALID_SPAN)
            started = self._tracer.start_span(name, context=context, attributes=_present(attributes))
        finally:
            _trace_id.reset(token)
        seen = OtelSpan(started, self._takes_contents)
        try:
            with use_span(started, record_exception=False, set_status_on_exception=False):
                yield seen
        except BaseException as error:  # whatever it was, the span says so, and it is raised again
            # Its kind, and not its message: that may quote what the agent or a tool wrote.
            seen.fail(str(getattr(error, "kind", None) or type(error).__name__))
            raise
        finally:
            started.end()
            self._ended += started.get_span_context().trace_flags.sampled

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def close(self, *, deadline_s: float) -> int:
        # In a thread that is left behind: an exporter repeats what is refused, for longer than that.
        closing = threading.Thread(target=self._provider.shutdown, name="agentrft-spans", daemon=True)
        closing.start()
        closing.join(deadline_s)
        self._exporter.shutdown()
        return self._ended - self._exporter.taken


class OtelSpan:
    """See `Span`."""

    def __init__(self, started: SdkSpan, takes_contents: bool) -> None:
        self._span = started
        self.takes_contents = takes_contents

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(_present(attributes))

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


class _RolloutIds(RandomIdGenerator):
    """A rollout's trace has the rollout's own id; others have random ones."""

    def generate_trace_id(self) -> int:
        return _trace_id.get() or super().generate_trace_id()


class _CountingExporter(SpanExporter):
    """Counts what the endpoint took."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._is_shut = False
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        self.taken += len(spans) if result is SpanExportResult.SUCCESS else 0
        return result

    def shutdown(self) -> None:
        """Ends its repetitions, too. Both the processor and we call it."""
        if not self._is_shut:
            self._is_shut = True
            self._inner.shutdown()


def _number(trace_id: str | None) -> int | None:
    """`trace_` and 32 hexadecimal digits, as every rollout's id has them, as a number; None for none."""
    return None if trace_id is None else int(trace_id.removeprefix(PREFIX), 16)


def _present(attributes: Attributes) -> dict[str, str | int | float | bool | Sequence[str]]:
    return {name: value for name, value in attributes.items() if value is not None}
