"""One job in a process of its own: `python -m agentrft.server.workers.worker JOB`, started by the scheduler.

A worker holds the job's lease while it runs. A thread renews the lease and reads whether a pause or cancel was
requested. Settings and keys come by standard input, never by arguments, which other users could read. It ends when its
server does.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from agentrft.errors import AgentRFTError, ArtifactsError, Interrupted, JobPaused, UserError
from agentrft.graders.own_server import grading_for_told
from agentrft.job.run import run_job
from agentrft.job.stop import Stop
from agentrft.report import api_ways
from agentrft.server.artifacts import JOB_PATIENCE_S, open_artifacts
from agentrft.server.creation.hosts import guarded
from agentrft.server.encryption.rotation import hold_key
from agentrft.server.encryption.sealing import Sealer
from agentrft.server.objects.jobs import eval_id
from agentrft.server.records import RUNNABLE, Records
from agentrft.server.settings import Settings
from agentrft.server.workers.leases import HEARTBEAT_S, LEASE_S, LOST, RENEW_S, STOP_GRACE_S
from agentrft.server.workers.preparation import fetch_job_state, localize_paths
from agentrft.server.workers.reporter import JobReporter
from agentrft.spec import JobSpec, expand_variables
from agentrft.store import JobStore

logger = logging.getLogger(__name__)


class Worker:
    """Runs one job, and leaves it in the state that was requested: finished, paused, cancelled, or to be resumed.

    Args:
        parent: the process id of the server, without which the worker ends.
        driver_environment: what the artifact store's driver reads. It is not in the process's environment, where what
            the job runs would see it.
    """

    def __init__(
        self,
        settings: Settings,
        sealer: Sealer,
        job_id: str,
        *,
        owner: str,
        parent: int,
        driver_environment: dict[str, str],
    ) -> None:
        artifacts = open_artifacts(settings, driver_environment, patience_s=JOB_PATIENCE_S, guard=self._keep_lease)
        self._store = JobStore(settings.jobs_dir, database=settings.database, artifacts=artifacts)
        self._records = Records(self._store)
        self._sealer = sealer
        self._settings = settings
        self._job_id = job_id
        self._owner = owner
        self._parent = parent
        self._ended = threading.Event()
        self._leased_until = 0.0

    def run(self) -> int:
        """Run the job. Returns the process's exit code."""
        if os.getppid() != self._parent or not self._records.acquire(self._job_id, self._owner, LEASE_S):
            return LOST
        self._leased_until = time.monotonic() + LEASE_S
        try:
            with guarded():
                return asyncio.run(self._run())
        finally:
            self._ended.set()
            self._records.release(self._job_id, self._owner)
            self._store.close()

    async def _run(self) -> int:
        stop = Stop()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.request)
        threading.Thread(target=self._beat, args=(stop, loop), name="agentrft-lease", daemon=True).start()
        store, job_id = self._store, self._job_id
        progress = JobReporter(store, self._records, job_id)
        try:
            await self._wait_for_earlier_worker(stop)
            if store.get_job(job_id).status not in RUNNABLE:
                return LOST
            spec = self._spec()
            await store.artifacts.aside(fetch_job_state, spec, store, job_id)
            ways = api_ways(eval_id(job_id), has_warm_start=spec.warm_start is not None)
            await run_job(spec, store, job_id, progress=progress, stop=stop, ways=ways)
        except Interrupted:
            # The lease is given up here, not lost.
            self._ended.set()
            self._records.settle(job_id, self._owner)
        except JobPaused:
            pass
        except ArtifactsError as error:
            # Before the job began; where it ran, it said so itself.
            event = ("error", f"{error.cause} {error.remedy} The job is paused; resume it then.")
            self._records.move(job_id, RUNNABLE, "paused", error=error.cause, event=event)
        except AgentRFTError as error:
            # Where the job itself failed, it said so.
            event = ("error", str(error))
            self._records.move(job_id, RUNNABLE, "failed", error=str(error), event=event)
        return 0

    def _spec(self) -> JobSpec:
        job = json.loads(self._sealer.open(self._records.sealed_spec(self._job_id)))
        spec = JobSpec.model_validate(expand_variables(job, "job", allowed=self._settings.allowed_env))
        return localize_paths(spec, self._settings)

    def _keep_lease(self) -> str | None:
        """Renew the lease when that is due. Returns what was requested: "pause", "cancel" or None.

        A worker that lost the lease exits at once: the job, its status and its files belong to another worker.
        """
        is_mine, wish = self._renew()
        if not is_mine and not self._ended.is_set():
            logger.error("%s: the lease is lost", self._job_id)
            os._exit(LOST)
        return wish

    async def _wait_for_earlier_worker(self, stop: Stop) -> None:
        """Wait until an earlier worker that lost the lease has ended: until then it holds the job's lock."""
        while True:
            try:
                with self._store.job_lock(self._job_id):
                    return
            except UserError:
                stop.check()
                await asyncio.sleep(HEARTBEAT_S)

    def _beat(self, stop: Stop, loop: asyncio.AbstractEventLoop) -> None:
        """Renew the lease until the job ends; stop the job when that is requested or the server is gone.

        Without a server nobody kills a worker that does not stop, so it then exits by itself after `STOP_GRACE_S`.
        """
        alone_since: float | None = None
        while not self._ended.wait(HEARTBEAT_S):
            wish = self._keep_lease()
            is_alone = os.getppid() != self._parent
            if wish is not None or is_alone:
                loop.call_soon_threadsafe(stop.request)
            if not is_alone:
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > STOP_GRACE_S:
                logger.error("%s does not stop, and the server is gone", self._job_id)
                os._exit(LOST)

    def _renew(self) -> tuple[bool, str | None]:
        """Whether this worker holds the lease, and what was requested; renews the lease when that is due.

        While the database does not answer, the lease counts as held until it runs out.
        """
        try:
            if self._leased_until - time.monotonic() > LEASE_S - RENEW_S:
                return self._records.held(self._job_id, self._owner)
            is_mine, wish = self._records.renew(self._job_id, self._owner, LEASE_S)
        except SQLAlchemyError as error:
            logger.warning("%s: the lease was not prolonged: %s", self._job_id, error)
            return time.monotonic() < self._leased_until, None
        self._leased_until = time.monotonic() + LEASE_S
        return is_mine, wish


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    told = json.loads(sys.stdin.readline())
    settings = Settings(**{**told["settings"], "data_dir": Path(told["settings"]["data_dir"])})
    os.nice(told["nice"])
    try:
        # Looked at before the server: while that lives, the key that it told is the one in use.
        key_lock = hold_key(settings.data_dir)
    except UserError:
        sys.exit(LOST)
    worker = Worker(
        settings,
        Sealer(told["secret_key"]),
        told["job_id"],
        owner=told["owner"],
        parent=told["parent"],
        driver_environment=told["driver_environment"],
    )
    with key_lock, grading_for_told(told):
        sys.exit(worker.run())


if __name__ == "__main__":
    main()
