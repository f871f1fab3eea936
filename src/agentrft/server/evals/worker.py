"""One run of an eval in a process of its own: `python -m agentrft.server.evals.worker`, started by the scheduler.

A worker holds the run's lease while it works (`workers/lease_keeper.py`), and ends when its server does. What it has
graded by then is kept, and the next one goes on.
"""

import asyncio
import json
import logging
import signal
from typing import Any

from agentrft.errors import AgentRFTError, ArtifactsError, Interrupted, describe
from agentrft.job.stop import Stop
from agentrft.server.artifacts import JOB_PATIENCE_S, open_artifacts
from agentrft.server.creation.hosts import guarded
from agentrft.server.creation.request import content_path
from agentrft.server.encryption.sealing import Sealer
from agentrft.server.evals.kept import every_item
from agentrft.server.evals.plan import RunPlan
from agentrft.server.evals.rows import EvalRow, RowsError, file_lines, read_rows
from agentrft.server.evals.running import run_plan
from agentrft.server.objects.made_evals import groups_of, run_results
from agentrft.server.records import Records
from agentrft.server.records.evals import RunRow
from agentrft.server.workers.lease_keeper import LeaseKeeper
from agentrft.server.workers.leases import LOST
from agentrft.server.workers.preparation import localize_paths
from agentrft.server.workers.told import Told, run_worker
from agentrft.spec import expand_variables
from agentrft.store import JobStore

logger = logging.getLogger(__name__)


class EvalWorker:
    """Does one run, and leaves it ended, or to be gone on with."""

    def __init__(self, told: Told) -> None:
        artifacts = open_artifacts(
            told.settings, told.driver_environment, patience_s=JOB_PATIENCE_S, guard=lambda: self._lease.keep()
        )
        self._store = JobStore(told.settings.jobs_dir, database=told.settings.database, artifacts=artifacts)
        self._records = Records(self._store)
        self._sealer = Sealer(told.secret_key)
        self._settings = told.settings
        self._run_id = told.name
        self._owner = told.owner
        self._lease = LeaseKeeper(self._records.eval_leases, told.name, owner=told.owner, parent=told.parent)

    def run(self) -> int:
        """Do the run. Returns the process's exit code."""
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
        records, run_id = self._records, self._run_id
        run = records.run(run_id)
        if run is None:
            return LOST
        try:
            plan = await asyncio.to_thread(self._plan)
            rows = await asyncio.to_thread(self._rows, run, plan)
            summary = await run_plan(plan, rows, records, run_id, self._owner, stop)
            results = await asyncio.to_thread(self._results, run)
            records.end_run(run_id, "completed", owner=self._owner, results={**results, "summary": summary})
        except Interrupted:
            pass
        except RowsError as error:
            self._fail("invalid_rows", f"{error.cause} {error.remedy}")
        except ArtifactsError as error:
            self._fail("artifacts_unavailable", f"{error.cause} {error.remedy}")
        except AgentRFTError as error:
            self._fail("run_failed", " ".join(str(error).splitlines()))
        except Exception as error:  # the boundary: whatever it was, the run has an end
            logger.exception("%s failed", run_id)
            self._fail("run_failed", describe(error))
        return 0

    def _fail(self, code: str, message: str) -> None:
        self._records.end_run(self._run_id, "failed", owner=self._owner, error={"code": code, "message": message})

    def _results(self, run: RunRow) -> dict[str, Any]:
        made = self._records.made_eval(run.eval_id)
        if made is None:
            raise Interrupted("the eval was deleted")
        items = (item.payload for item in every_item(self._records, run.run_id))
        return run_results(items, groups_of(made), run.model)

    def _plan(self) -> RunPlan:
        sealed = json.loads(self._sealer.open(self._records.sealed_run(self._run_id)))
        plan = RunPlan.model_validate(expand_variables(sealed, "run", allowed=self._settings.allowed_env))
        by = plan.sampled_by
        if by is None:
            return plan
        job = localize_paths(by.job, self._settings)
        if job.start_from is not None:
            self._store.artifacts.fetch(job.start_from)
        return plan.model_copy(update={"sampled_by": by.model_copy(update={"job": job})})

    def _rows(self, run: RunRow, plan: RunPlan) -> list[EvalRow]:
        if run.file_id is None:
            content = self._records.run_content(run.run_id) or ""
            return read_rows(content.encode().splitlines(), plan.item_schema)
        path = content_path(self._settings, run.file_id)
        if not self._store.artifacts.fetch(path):
            raise RowsError(f"the file {run.file_id} is gone.", "Upload it again, and start another run.")
        return read_rows(file_lines(path), plan.item_schema)


def main() -> None:
    run_worker(lambda told: EvalWorker(told).run())


if __name__ == "__main__":
    main()
