"""Reports the progress of a running job to the database, for the API.

A worker gives a `JobReporter` to `run_job`. It stores an event for each complete step, and the estimated time of the
end.
"""

import time
from typing import Any

from agentrft.job.progress import NoProgress
from agentrft.server.objects.grader_panels import grader_names
from agentrft.server.objects.jobs import steps_of
from agentrft.server.objects.metrics import event_data, event_message
from agentrft.server.objects.tuning_metrics import tuning_data, tuning_message
from agentrft.server.records import Records
from agentrft.server.workers.estimate import seconds_left
from agentrft.store import JobRow, JobStore
from agentrft.store.numbers import finite


class JobReporter(NoProgress):
    """Stores one event for each step that is complete, also for those committed before a restart."""

    def __init__(self, store: JobStore, records: Records, job_id: str) -> None:
        self._store = store
        self._records = records
        self._job_id = job_id
        # Read once, for jobs of thousands of steps: nobody else commits while this worker runs.
        self._metrics: list[dict[str, Any]] = []
        self._told: set[int] = set()

    def started(self, job_id: str, total_steps: int) -> None:
        self._metrics = self._store.metrics(job_id)
        self._told = {event.data["step"] for event in self._store.events(job_id) if "total_steps" in event.data}
        for message, data in self._untold(self._store.get_job(job_id)):
            self._store.add_event(job_id, "info", message, data)

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        job = self._store.get_job(self._job_id)
        self._metrics.append({"phase": phase, "step": step, **finite(metrics)})
        self._records.note_progress(self._job_id, self._estimated_finish(job), self._untold(job))

    def _estimated_finish(self, job: JobRow) -> float | None:
        hyperparameters = job.hyperparameters or {}
        left = seconds_left(
            self._metrics,
            total_steps=job.total_steps or 0,
            validates=job.spec["job"]["validation_file"] is not None,
            eval_interval=hyperparameters.get("eval_interval", 1),
        )
        return None if left is None else time.time() + left

    def _untold(self, job: JobRow) -> list[tuple[str, dict[str, Any]]]:
        """Messages and data of the events that are still to be stored: of complete steps without one."""
        if job.hyperparameters is None:
            return []
        total = job.total_steps or 0
        untold = [told for told in steps_of(job, self._metrics) if told["step"] not in self._told]
        self._told.update(told["step"] for told in untold)
        if not job.has_rollouts:
            return [(tuning_message(told, total), tuning_data(told, total)) for told in untold]
        graders = grader_names(job.setting("grader"))
        return [(event_message(told, total), event_data(told, total, graders)) for told in untold]
