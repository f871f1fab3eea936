"""What every route of the API works with."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, TypeVar

from fastapi import Request

from agentrft.graders.own_server import OwnServer
from agentrft.server.cache.events import EventCache
from agentrft.server.creation.validators import Validators
from agentrft.server.encryption.sealing import Sealer
from agentrft.server.errors import ApiError, not_found
from agentrft.server.models.catalog import Catalog
from agentrft.server.objects.grader_panels import grader_names
from agentrft.server.objects.jobs import job_object, steps_of
from agentrft.server.objects.result_csv import result_csv
from agentrft.server.objects.tuning_metrics import tuning_csv
from agentrft.server.offload.admission import Admission
from agentrft.server.offload.grading import GradingProcesses
from agentrft.server.offload.processes import Launcher
from agentrft.server.records import Records
from agentrft.server.records.rows import ServedJob
from agentrft.server.settings import Settings
from agentrft.store import JobRow, JobStore

T = TypeVar("T")
QUICK_THREADS, SLOW_THREADS = 8, 2
MERGES = {"max_running": 1, "max_waiting": 8, "retry_after_s": 60}
ZIPS = {"max_running": 4, "max_waiting": 32, "retry_after_s": 10}
SENDS = {"max_running": 16, "max_waiting": 0, "retry_after_s": 60}


@dataclass
class Context:
    """One for each application.

    Attributes:
        wake, wake_evals: tell the schedulers of jobs and of evals' runs that there is something to do.
        own_server: how processes of this server reach its models; None until it listens.
        launcher: starts processes for heavy work.
        grading: the processes in which graders are tried.
        validators: the processes in which files and jobs' data are looked at.
        merging: who may merge weights: the memory is for one at a time.
        zipping: who may pack weights that need no merging.
        sending: who may be sent weights that were packed for them: each has a copy on the disk until then.
        quick: threads for short looks at the database, which long work in other threads does not hold up.
        slow: few threads for work on large files, for which nobody waits.
    """

    settings: Settings
    store: JobStore
    records: Records
    sealer: Sealer
    catalog: Catalog
    event_cache: EventCache = field(init=False)
    started_at: float = field(default_factory=time.time)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    wake_evals: asyncio.Event = field(default_factory=asyncio.Event)
    own_server: OwnServer | None = None
    launcher: Launcher = field(default_factory=Launcher)
    grading: GradingProcesses = field(init=False)
    validators: Validators = field(init=False)
    merging: Admission = field(default_factory=lambda: Admission("merged weights", **MERGES))
    zipping: Admission = field(default_factory=lambda: Admission("weights", **ZIPS))
    sending: Admission = field(default_factory=lambda: Admission("downloads", **SENDS))
    quick: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(QUICK_THREADS, "agentrft-quick"))
    slow: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(SLOW_THREADS, "agentrft-slow"))

    def __post_init__(self) -> None:
        self.event_cache = EventCache(self.store)
        self.grading = GradingProcesses(self.launcher, lambda: self.own_server)
        self.validators = Validators(self.launcher, lambda: self.own_server)

    async def quickly(self, look: Callable[..., T], *args: Any) -> T:
        """What a short look at the database gives, in a thread that waits for no long work."""
        return await asyncio.get_running_loop().run_in_executor(self.quick, look, *args)

    async def slowly(self, work: Callable[..., T], *args: Any) -> T:
        """What work gives for which nobody waits, in one of few threads."""
        return await asyncio.get_running_loop().run_in_executor(self.slow, work, *args)

    async def close(self) -> None:
        """End what runs beside the answers. What waits for its turn is done by the next start."""
        await self.grading.close()
        await self.validators.close()
        self.launcher.close()
        self.quick.shutdown(wait=False, cancel_futures=True)
        self.slow.shutdown(wait=False, cancel_futures=True)

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

    def secrets_of(self, job_id: str) -> dict[str, Any]:
        """The whole dumped spec of a job, with its secrets. Raises ApiError if the server has no such job."""
        return json.loads(self.sealer.open(self.records.sealed_spec(self.served(job_id).job_id)))

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
        steps = steps_of(job, self.store.metrics(job.job_id))
        return result_csv(steps, grader_names(job.setting("grader"))) if job.has_rollouts else tuning_csv(steps)


def result_file_id(job_id: str) -> str:
    """The CSV of a job's metrics is a file of its own, made when it is asked for."""
    return f"file-metrics-{job_id.removeprefix('ftjob-')}"


def context_of(request: Request) -> Context:
    return request.app.state.context


def quick(route: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """Makes a route answer from the threads for short looks; its `context` says which."""

    @wraps(route)
    async def answered(*args: Any, context: Context, **options: Any) -> T:
        return await context.quickly(partial(route, *args, context=context, **options))

    return answered


def check_limit(limit: int, most: int) -> int:
    if not 1 <= limit <= most:
        raise ApiError(400, f"limit: must be 1 to {most}.", param="limit", code="invalid_value")
    return limit
