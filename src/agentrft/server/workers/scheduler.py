"""Starts a worker process for each job that may run, up to `--max-running-jobs`, by priority and age.

When a worker dies, its job goes on in a new worker from the last finished step. A job whose workers die several times
without finishing a step fails.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from agentrft.graders.own_server import OwnServer, told_of
from agentrft.server.background.loop import keep_doing
from agentrft.server.creation.validation import Problem
from agentrft.server.records import RUNNABLE, Records, new_id
from agentrft.server.settings import Settings
from agentrft.server.workers.leases import LOST, NICE, STOP_GRACE_S

logger = logging.getLogger(__name__)

LOOK_S = 0.5
# Until what a killed worker left is in the record.
NOTE_S = 2.0
MOST_CRASHES = 3


@dataclass
class Worker:
    """A worker process, from the scheduler's side.

    Attributes:
        owner: the name under which it holds the job's lease.
        stopping_since: when a pause or cancel of its job was seen, by the monotonic clock; None while there is none.
    """

    process: asyncio.subprocess.Process
    owner: str
    stopping_since: float | None = None


class Scheduler:
    """Starts workers and watches them. All other state is in the database, so several servers may share it.

    Args:
        driver_environment: variables that workers need to reach the artifact store, and that jobs must not read.
        own_server: how judges of its jobs reach models of this server.
    """

    def __init__(
        self,
        settings: Settings,
        records: Records,
        secret_key: str,
        driver_environment: dict[str, str],
        own_server: Callable[[], OwnServer | None],
    ) -> None:
        self._own_server = own_server
        self._settings = settings
        self._records = records
        self._secret_key = secret_key
        self._driver_environment = driver_environment if settings.artifacts is not None else {}
        self._workers: dict[str, Worker] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled. Then all workers are stopped; their jobs go on with the next start."""
        try:
            await keep_doing("looking at the jobs", self._look, every_s=LOOK_S, woken=self.woken)
        finally:
            await self._stop_all()

    @property
    def running(self) -> list[str]:
        return sorted(self._workers)

    async def _look(self) -> None:
        await asyncio.to_thread(self._end_what_does_not_run)
        await self._start_what_may_run()
        self._kill_what_does_not_stop()

    def _end_what_does_not_run(self) -> None:
        """Pause and cancel jobs of which that was requested and that no worker has."""
        for job_id in self._records.wished():
            if job_id not in self._workers:
                self._records.settle(job_id)

    async def _start_what_may_run(self) -> None:
        free = self._settings.max_running_jobs - len(self._workers)
        if free <= 0:
            return
        # Those just started may not have their leases yet.
        waiting = [one for one in await asyncio.to_thread(self._records.waiting) if one not in self._workers]
        for job_id in waiting[:free]:
            await self._start(job_id)

    async def _start(self, job_id: str) -> None:
        folder = self._records.store.job_folder(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        owner = new_id("worker-", 12)
        told = {
            "settings": {
                **asdict(self._settings),
                "data_dir": str(self._settings.data_dir),
                "webhook_url": None,
                "webhook_secret": None,
            },
            "secret_key": self._secret_key,
            "job_id": job_id,
            "owner": owner,
            "nice": NICE,
            "parent": os.getpid(),
            "driver_environment": self._driver_environment,
            **told_of(self._own_server()),
        }
        with (folder / "worker.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agentrft.server.workers.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._workers[job_id] = Worker(process, owner)
        task = asyncio.create_task(self._watch(job_id, self._workers[job_id]), name=f"agentrft-watch-{job_id}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(told).encode() + b"\n")
        except (RuntimeError, ConnectionError):  # uvloop says the former of a pipe that is closed
            logger.warning("%s: its worker died before it was told what to do", job_id)

    async def _watch(self, job_id: str, worker: Worker) -> None:
        code = await worker.process.wait()
        try:
            if code not in (0, LOST):
                await asyncio.to_thread(self._after_a_crash, job_id, worker, code)
        finally:
            del self._workers[job_id]
            self.woken.set()

    def _after_a_crash(self, job_id: str, worker: Worker, code: int) -> None:
        """Let the job run again at once, unless a pause or cancel was requested, or it crashed too often."""
        records = self._records
        served = records.served(job_id)
        is_anothers = served is None or served.lease_owner not in (None, worker.owner)
        if is_anothers or records.store.get_job(job_id).status not in RUNNABLE:
            records.release(job_id, worker.owner)
            return
        if worker.stopping_since is None:
            if records.count_crash(job_id) >= MOST_CRASHES:
                self._fail(job_id, code)
            else:
                records.store.add_event(job_id, "warning", f"the worker died ({_how(code)}); the job goes on")
        records.settle(job_id, worker.owner)

    def _fail(self, job_id: str, code: int) -> None:
        message = f"its worker died {MOST_CRASHES} times without finishing a step, at last by {_how(code)}"
        error = Problem("worker_died", None, message).stored
        self._records.move(job_id, RUNNABLE, "failed", error=error, event=("error", message))

    def _kill_what_does_not_stop(self) -> None:
        now = time.monotonic()
        for job_id, worker in self._workers.items():
            served = self._records.served(job_id)
            if served is None or served.wish is None:
                worker.stopping_since = None
                continue
            worker.stopping_since = worker.stopping_since or now
            if now - worker.stopping_since > STOP_GRACE_S:
                _kill(worker)

    async def _stop_all(self) -> None:
        for worker in self._workers.values():
            worker.stopping_since = time.monotonic()
            _signal(worker, signal.SIGTERM)
        if self._watching:
            await asyncio.wait(self._watching, timeout=STOP_GRACE_S)
        for worker in self._workers.values():
            _kill(worker)
        if self._watching:
            await asyncio.wait(self._watching, timeout=NOTE_S)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(worker: Worker, number: int) -> None:
    try:
        worker.process.send_signal(number)
    except ProcessLookupError:
        pass


def _kill(worker: Worker) -> None:
    """Kill the worker and all processes that it started."""
    try:
        os.killpg(worker.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
