"""The metrics of a running job's steps on their way to its integrations (`agentrft.sinks`)."""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from agentrft.job.progress import Progress
from agentrft.rollout import Rollout
from agentrft.sinks import Feed, RunFacts, new_sink
from agentrft.sinks.requirements import secrets_of
from agentrft.spec import IntegrationSpec
from agentrft.store import JobStore
from agentrft.traffic import Redactor, shorten

# How long an ended job waits for what is not sent yet; one that was asked to stop has less: see
# `STOP_GRACE_S` in `server.workers.leases`.
LAST_S = 30.0
LAST_OF_STOPPED_S = 2.0


class MetricsOut:
    """Passes on what a job tells, and lets its sinks know of each step that is committed.

    A sink that fails is told of by a warning when it begins to, and by one at the end, with what it lacks.
    """

    def __init__(
        self, integrations: Sequence[IntegrationSpec], store: JobStore, job_id: str, progress: Progress
    ) -> None:
        self._integrations = integrations
        self._store = store
        self._job_id = job_id
        self._progress = progress
        self._feeds: list[Feed] = []
        self._told: set[str] = set()
        self._redactor = Redactor(secrets_of(os.environ), "")

    def started(self, job_id: str, total_steps: int) -> None:
        self._progress.started(job_id, total_steps)
        job = self._store.get_job(job_id)
        # What is stored has no secrets.
        config = {**job.spec["job"], "hyperparameters": job.hyperparameters}
        run = RunFacts(job_id, config, self._store.job_folder(job_id))
        for place, integration in enumerate(self._integrations):
            label = f"integrations[{place}], {integration.type}"
            self._feeds.append(Feed(label, partial(new_sink, integration, run), self._committed_from))
            self._feeds[-1].start()

    def phase(self, name: str, step: int, total: int) -> None:
        self._progress.phase(name, step, total)

    def rollout(self, rollout: Rollout) -> None:
        self._progress.rollout(rollout)

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        self._progress.committed(phase, step, metrics)
        for feed in self._feeds:
            feed.wake()
            if feed.problem is not None and feed.label not in self._told:
                self._told.add(feed.label)
                self._warn(f"{self._said(feed)} The job goes on; what is missing there is sent once that works.")

    def message(self, level: str, text: str) -> None:
        self._progress.message(level, text)

    async def close(self, status: str) -> None:
        """Send what is left, and how the job's process ended. A service that does not answer is not waited for long."""
        if not self._feeds:
            return
        deadline_s = LAST_S if status in ("succeeded", "failed") else LAST_OF_STOPPED_S
        for feed in self._feeds:
            feed.end(status, deadline_s=deadline_s)
        await asyncio.gather(*(asyncio.to_thread(feed.wait) for feed in self._feeds))
        committed = len(self._store.metrics(self._job_id))
        for feed in self._feeds:
            if not feed.is_whole:
                lacking = f"{committed - feed.sent} of {committed} steps' metrics were not sent"
                what = "it did not confirm that it has everything" if feed.sent == committed else lacking
                self._warn(f"{self._said(feed)} At the end {what}; all are in the job's own record.")

    def _committed_from(self, number: int) -> list[dict[str, Any]]:
        return self._store.metrics(self._job_id, skip=number)

    def _said(self, feed: Feed) -> str:
        problem = feed.problem or "no answer in time"
        return f"{feed.label}: {shorten(self._redactor.message(problem))}."

    def _warn(self, text: str) -> None:
        self._store.add_event(self._job_id, "warning", text)
        self._progress.message("warning", text)
