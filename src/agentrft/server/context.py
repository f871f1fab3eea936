"""What every route of the API works with."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from agentrft.server.cache.events import EventCache
from agentrft.server.encryption.sealing import Sealer
from agentrft.server.errors import ApiError, not_found
from agentrft.server.models.catalog import Catalog
from agentrft.server.objects.jobs import job_object, steps_of
from agentrft.server.objects.metrics import metrics_csv
from agentrft.server.records import Records
from agentrft.server.records.rows import ServedJob
from agentrft.server.settings import Settings
from agentrft.store import JobRow, JobStore


@dataclass
class Context:
    """One for each application.

    Attributes:
        wake: tells the scheduler that there is something to do.
        merging: held while weights are merged: the memory is for one at a time.
    """

    settings: Settings
    store: JobStore
    records: Records
    sealer: Sealer
    catalog: Catalog
    event_cache: EventCache = field(init=False)
    started_at: float = field(default_factory=time.time)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    merging: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.event_cache = EventCache(self.store)

    def job(self, job_id: str) -> tuple[JobRow, ServedJob]:
        """Raises ApiError if the server has no such job."""
        served = self.served(job_id)
        return self.store.get_job(job_id), served

    def served(self, job_id: str) -> ServedJob:
        """Raises ApiError if the server has no such job."""
        served = self.records.served(job_id)
        if served is None:
            raise not_found(
                f"There is no fine-tuning job '{job_id}'.", param="fine_tuning_job_id", code="fine_tune_not_found"
            )
        return served

    def job_object(self, job_id: str) -> dict[str, Any]:
        return self.object_of(*self.job(job_id))

    def object_of(self, job: JobRow, served: ServedJob) -> dict[str, Any]:
        is_done = job.status == "succeeded"
        tokens = sum(row.get("total_tokens", 0) for row in self.store.metrics(job.job_id)) if is_done else 0
        return job_object(
            job,
            served,
            organization=self.settings.organization,
            trained_tokens=tokens,
            result_files=[result_file_id(job.job_id)] if is_done else [],
        )

    def result_csv(self, job: JobRow) -> str:
        return metrics_csv(steps_of(job, self.store.metrics(job.job_id)))


def result_file_id(job_id: str) -> str:
    """The CSV of a job's metrics is a file of its own, made when it is asked for."""
    return f"file-metrics-{job_id.removeprefix('ftjob-')}"


def context_of(request: Request) -> Context:
    return request.app.state.context


def check_limit(limit: int, most: int) -> int:
    if not 1 <= limit <= most:
        raise ApiError(400, f"limit: must be 1 to {most}.", param="limit", code="invalid_value")
    return limit
