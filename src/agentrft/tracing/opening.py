"""Whether there are spans: what OpenTelemetry's own environment variables say."""

import os
from typing import Protocol

from agentrft.errors import UserError, missing_package
from agentrft.tracing.spans import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"


class Tracing(Tracer, Protocol):
    """A tracer with its exporter."""

    def close(self, *, deadline_s: float) -> int:
        """Send what is left, for so long at most. Returns how many spans were not taken."""
        ...


def open_tracing() -> Tracing | None:
    """A tracer to the endpoint that the environment names; None where it names none.

    Raises:
        UserError: the packages are not here, or the endpoint is to be spoken to in another protocol.
    """
    endpoint = _first(ENDPOINTS)
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if endpoint is None or is_off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp").lower() == "none":
        return None
    protocol = _first(PROTOCOLS) or SPOKEN
    if protocol != SPOKEN:
        raise UserError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: spans are sent by {SPOKEN} alone.",
            f"Set it to {SPOKEN}, and the endpoint to the collector's port for that (4318 as a rule).",
        )
    try:
        from agentrft.tracing.otel import OtelTracing
    except ModuleNotFoundError as error:
        what = "OTEL_EXPORTER_OTLP_ENDPOINT is set, and tracing"
        raise missing_package(what, error.name or "opentelemetry", extra="otel") from error
    return OtelTracing()


def _first(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
