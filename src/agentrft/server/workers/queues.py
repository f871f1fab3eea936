"""What schedulers start workers for: jobs, and runs of evals, each as their records say."""

from collections.abc import Set
from pathlib import Path
from typing import Protocol

from agentrft.server.creation.validation import Problem
from agentrft.server.records import RUNNABLE, Records
from agentrft.server.settings import Settings

MOST_CRASHES = 3


class Queue(Protocol):
    """What waits for workers.

    Attributes:
        what: the kind, in log lines.
        module: what a worker runs, by `python -m`.
        most: that run at once here.
    """

    what: str
    module: str
    most: int

    def waiting(self) -> list[str]:
        """Names of what may run now, the first to run first."""
        ...

    def end_what_does_not_run(self, running: Set[str]) -> None:
        """Do what was requested of what has no worker."""
        ...

    def is_to_stop(self, name: str) -> bool:
        """Whether its worker is to stop."""
        ...

    def after_a_crash(self, name: str, owner: str, how: str, is_stopping: bool) -> None:
        """What becomes of it now that its worker died."""
        ...

    def log_file(self, name: str) -> Path: ...


class JobQueue:
    """By priority and age. When a worker dies, its job goes on in a new worker from the last finished step. A job whose
    workers die several times without finishing a step fails.
    """

    what = "jobs"
    module = "agentrft.server.workers.worker"

    def __init__(self, settings: Settings, records: Records) -> None:
        self.most = settings.max_running_jobs
        self._records = records

    def waiting(self) -> list[str]:
        return self._records.waiting()

    def end_what_does_not_run(self, running: Set[str]) -> None:
        """Pause and cancel jobs of which that was requested and that no worker has."""
        for job_id in self._records.wished():
            if job_id not in running:
                self._records.settle(job_id)

    def is_to_stop(self, name: str) -> bool:
        served = self._records.served(name)
        return served is not None and served.wish is not None

    def after_a_crash(self, name: str, owner: str, how: str, is_stopping: bool) -> None:
        """Let the job run again at once, unless a pause or cancel was requested, or it crashed too often."""
        records = self._records
        served = records.served(name)
        is_anothers = served is None or served.lease_owner not in (None, owner)
        if is_anothers or records.store.get_job(name).status not in RUNNABLE:
            records.release(name, owner)
            return
        if not is_stopping:
            if records.count_crash(name) >= MOST_CRASHES:
                self._fail(name, how)
            else:
                records.store.add_event(name, "warning", f"the worker died ({how}); the job goes on")
        records.settle(name, owner)

    def log_file(self, name: str) -> Path:
        return self._records.store.job_folder(name) / "worker.log"

    def _fail(self, job_id: str, how: str) -> None:
        message = f"its worker died {MOST_CRASHES} times without finishing a step, at last by {how}"
        error = Problem("worker_died", None, message).stored
        self._records.move(job_id, RUNNABLE, "failed", error=error, event=("error", message))


class EvalQueue:
    """By age. When a worker dies, its run goes on in a new one, with the rows that are left. A run whose workers die
    several times fails.
    """

    what = "runs of evals"
    module = "agentrft.server.evals.worker"

    def __init__(self, settings: Settings, records: Records) -> None:
        self.most = settings.max_running_evals
        self._records = records
        self._log_file = settings.data_dir / "evals.log"

    def waiting(self) -> list[str]:
        return self._records.eval_leases.waiting()

    def end_what_does_not_run(self, running: Set[str]) -> None:
        """Nothing: a run is canceled, or deleted, whether a worker has it or not."""

    def is_to_stop(self, name: str) -> bool:
        return self._records.eval_leases.wish_of(name) is not None

    def after_a_crash(self, name: str, owner: str, how: str, is_stopping: bool) -> None:
        """Let the run go on at once, unless it is to end, or its workers died too often."""
        leases = self._records.eval_leases
        is_anothers = leases.holder(name) not in (None, owner)
        if not is_stopping and not is_anothers and leases.count_crash(name) >= MOST_CRASHES:
            message = f"its worker died {MOST_CRASHES} times, at last by {how}"
            self._records.end_run(name, "failed", error={"code": "worker_died", "message": message})
        leases.release(name, owner)

    def log_file(self, name: str) -> Path:
        return self._log_file
