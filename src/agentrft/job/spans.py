"""A running job's spans: opened and closed with its process, and those of its updates."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from agentrft.errors import UserError
from agentrft.job.progress import Progress
from agentrft.spec import BaseJobSpec
from agentrft.store import JobStore
from agentrft.tracing import Span, open_tracing, span, tracing

# How long an ended process waits for spans that are not sent yet.
LAST_S = 2.0
# The numbers of an update that its span has.
TOLD = ("loss", "grad_norm", "sampled_tokens", "unique_tokens", "total_tokens", "learned_tokens", "policy_change")


@asynccontextmanager
async def traced(spec: BaseJobSpec, store: JobStore, job_id: str, progress: Progress) -> AsyncIterator[None]:
    """Inside, what the job does is shown as spans where OpenTelemetry's variables say where to.

    They are for whoever looks: what keeps them from being sent is a warning, and never stops the job.
    """

    def warn(text: str) -> None:
        store.add_event(job_id, "warning", text)
        progress.message("warning", text)

    try:
        opened = open_tracing()
    except UserError as error:
        warn(f"There are no spans of this job. {error.cause} {error.remedy}")
        opened = None
    if opened is None:
        yield
        return
    try:
        with tracing(
            opened,
            {"gen_ai.provider.name": "agentrft", "gen_ai.request.model": spec.model, "agentrft.job_id": job_id},
        ):
            yield
    finally:
        lost = await asyncio.to_thread(opened.close, deadline_s=LAST_S)
        if lost:
            warn(f"{lost} spans were not taken by the endpoint that OTEL_EXPORTER_OTLP_ENDPOINT names.")


def update_span(phase: str, step: int) -> AbstractContextManager[Span]:
    """One update of the policy."""
    return span("update", {"agentrft.phase": phase, "agentrft.step": step})


def note_update(seen: Span, policy_version: int, metrics: Mapping[str, Any]) -> None:
    numbers = {f"agentrft.update.{name}": metrics[name] for name in TOLD if metrics.get(name) is not None}
    seen.set({"agentrft.policy_version": policy_version, **numbers})
