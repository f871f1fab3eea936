"""Which jobs run: one worker process for each, as many as are allowed, the most urgent first.

A worker that dies takes nothing with it: its lease runs out, and the job goes on in another. One that dies again and
again without finishing a step fails its job.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any

from agentrft.server.records import Records, new_id
from agentrft.server.settings import Settings
from agentrft.server.worker import LOST

logger = logging.getLogger(__name__)

LOOK_S = 0.5
# A stop ends at the next safe point. An update of a large model may be far from one; killed, it loses nothing.
STOP_GRACE_S = 6.0
MOST_CRASHES = 3
# Training yields to the answers of the API.
NICE = 5


class Scheduler:
    """Starts workers and watches them. Everything else it reads from the database, so several may share one."""

    def __init__(self, settings: Settings, records: Records, secret_key: str) -> None:
        self._settings = settings
        self._records = records
        self._secret_key = secret_key
        self._workers: dict[str, asyncio.subprocess.Process] = {}
        self._stopping_since: dict[str, float] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; then all workers are stopped, and their jobs wait to go on."""
        try:
            while True:
                await asyncio.to_thread(self._end_what_does_not_run)
                await self._start_what_may_run()
                self._kill_what_does_not_stop()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self.woken.wait()
                except TimeoutError:
                    pass
                self.woken.clear()
        finally:
            await self._stop_all()

    @property
    def running(self) -> list[str]:
        return sorted(self._workers)

    def _end_what_does_not_run(self) -> None:
        """Wishes for jobs that no worker has."""
        for job_id, served in self._records.all_served().items():
            if served.wish is None or job_id in self._workers or (served.lease_until or 0) > time.time():
                continue
            if served.wish == "cancel":
                self._records.move(job_id, ("created", "queued", "paused", "interrupted"), "cancelled")
            else:
                self._records.move(job_id, ("queued", "interrupted"), "paused")
            if self._records.store.get_job(job_id).status in ("cancelled", "paused"):
                self._records.store.add_event(job_id, "info", f"The job was {_past(served.wish)}")
            if self._records.store.get_job(job_id).status != "running":
                self._records.wish(job_id, None)

    async def _start_what_may_run(self) -> None:
        free = self._settings.max_running_jobs - len(self._workers)
        if free <= 0:
            return
        for job_id in (await asyncio.to_thread(self._records.waiting))[:free]:
            if job_id not in self._workers:
                await self._start(job_id)

    async def _start(self, job_id: str) -> None:
        folder = self._records.store.job_folder(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        told = {
            "settings": {**asdict(self._settings), "data_dir": str(self._settings.data_dir), "webhook_url": None,
                         "webhook_secret": None},
            "secret_key": self._secret_key, "job_id": job_id, "owner": new_id("worker-", 12), "nice": NICE,
        }  # fmt: skip
        with (folder / "worker.log").open("ab") as log:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agentrft.server.worker", stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(told).encode() + b"\n")
        self._workers[job_id] = worker
        task = asyncio.create_task(self._watch(job_id, worker), name=f"agentrft-watch-{job_id}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, job_id: str, worker: asyncio.subprocess.Process) -> None:
        code = await worker.wait()
        self._workers.pop(job_id, None)
        was_stopped = self._stopping_since.pop(job_id, None) is not None
        if code not in (0, LOST):
            await asyncio.to_thread(self._after_a_crash, job_id, code, was_stopped)
        self.woken.set()

    def _after_a_crash(self, job_id: str, code: int, was_stopped: bool) -> None:
        """The job goes on at once, unless its wish says otherwise or it crashed too often."""
        records = self._records
        served = records.served(job_id)
        if served is None:
            return
        if served.lease_owner is not None:
            records.release(job_id, served.lease_owner)
        if was_stopped and served.wish is not None:
            records.move(job_id, ("running",), "interrupted")
            return
        records.store.add_event(job_id, "warning", f"the worker died ({_how(code)}); the job goes on")
        if records.count_crash(job_id) >= MOST_CRASHES:
            message = f"its worker died {MOST_CRASHES} times without finishing a step, at last by {_how(code)}"
            records.move(job_id, ("running",), "interrupted")
            records.move(job_id, ("interrupted", "queued"), "failed", error=f"[worker_died]: {message}")
            records.store.add_event(job_id, "error", message)
        else:
            records.move(job_id, ("running",), "interrupted")
            records.move(job_id, ("interrupted",), "queued")

    def _kill_what_does_not_stop(self) -> None:
        now = time.monotonic()
        for job_id, worker in self._workers.items():
            served = self._records.served(job_id)
            if served is None or served.wish is None:
                continue
            since = self._stopping_since.setdefault(job_id, now)
            if now - since > STOP_GRACE_S:
                _kill(worker)

    async def _stop_all(self) -> None:
        for worker in self._workers.values():
            if worker.stdin is not None:
                worker.stdin.close()
            _signal(worker, signal.SIGTERM)
        if self._watching:
            await asyncio.wait(self._watching, timeout=STOP_GRACE_S)
        for worker in self._workers.values():
            _kill(worker)


def _past(wish: str) -> str:
    return {"cancel": "cancelled", "pause": "paused"}[wish]


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(worker: Any, number: int) -> None:
    try:
        os.killpg(worker.pid, number)
    except ProcessLookupError:
        pass


def _kill(worker: Any) -> None:
    _signal(worker, signal.SIGKILL)
