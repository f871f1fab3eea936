"""One job in a process of its own: `python -m agentrft.server.workers.worker JOB`, started by the scheduler.

A worker holds the job's lease while it runs (`lease_keeper.py`), and ends when its server does.
"""

import asyncio
import json
import signal

from agentrft.errors import AgentRFTError, ArtifactsError, Interrupted, JobPaused, UserError
from agentrft.job.run import run_job
from agentrft.job.stop import Stop
from agentrft.report import api_ways
from agentrft.server.artifacts import JOB_PATIENCE_S, open_artifacts
from agentrft.server.creation.hosts import guarded
from agentrft.server.creation.own_cluster import in_own_cluster
from agentrft.server.encryption.sealing import Sealer
from agentrft.server.objects.jobs import eval_id
from agentrft.server.records import RUNNABLE, Records
from agentrft.server.workers.lease_keeper import LeaseKeeper
from agentrft.server.workers.leases import HEARTBEAT_S, LOST
from agentrft.server.workers.preparation import fetch_job_state, localize_paths
from agentrft.server.workers.reporter import JobReporter
from agentrft.server.workers.told import Told, run_worker
from agentrft.spec import AnyJobSpec, JobSpec, expand_variables, stored_job
from agentrft.store import JobStore


class Worker:
    """Runs one job, and leaves it in the state that was requested: finished, paused, cancelled, or to be resumed."""

    def __init__(self, told: Told) -> None:
        artifacts = open_artifacts(
            told.settings, told.driver_environment, patience_s=JOB_PATIENCE_S, guard=lambda: self._lease.keep()
        )
        self._store = JobStore(told.settings.jobs_dir, database=told.settings.database, artifacts=artifacts)
        self._records = Records(self._store)
        self._sealer = Sealer(told.secret_key)
        self._settings = told.settings
        self._job_id = told.name
        self._owner = told.owner
        self._lease = LeaseKeeper(self._records, told.name, owner=told.owner, parent=told.parent)

    def run(self) -> int:
        """Run the job. Returns the process's exit code."""
        if not self._lease.acquire():
            return LOST
        try:
            with guarded():
                return asyncio.run(self._run())
        finally:
            self._lease.release()
            self._store.close()

    async def _run(self) -> int:
        stop = Stop()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.request)
        self._lease.watch(stop, loop)
        store, job_id = self._store, self._job_id
        progress = JobReporter(store, self._records, job_id)
        try:
            await self._wait_for_earlier_worker(stop)
            if store.get_job(job_id).status not in RUNNABLE:
                return LOST
            spec = self._spec()
            await store.artifacts.aside(fetch_job_state, spec, store, job_id)
            has_warm_start = isinstance(spec, JobSpec) and spec.warm_start is not None
            ways = api_ways(eval_id(job_id), has_warm_start=has_warm_start)
            await run_job(spec, store, job_id, progress=progress, stop=stop, ways=ways)
        except Interrupted:
            self._lease.end()
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

    def _spec(self) -> AnyJobSpec:
        job = json.loads(self._sealer.open(self._records.sealed_spec(self._job_id)))
        spec = stored_job(expand_variables(job, "job", allowed=self._settings.allowed_env))
        return localize_paths(in_own_cluster(spec, self._settings), self._settings)

    async def _wait_for_earlier_worker(self, stop: Stop) -> None:
        """Wait until an earlier worker that lost the lease has ended: until then it holds the job's lock."""
        while True:
            try:
                with self._store.job_lock(self._job_id):
                    return
            except UserError:
                stop.check()
                await asyncio.sleep(HEARTBEAT_S)


def main() -> None:
    run_worker(lambda told: Worker(told).run())


if __name__ == "__main__":
    main()
