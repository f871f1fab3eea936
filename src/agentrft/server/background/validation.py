"""What came is looked at before it is used: an uploaded file before a job may have it, a job before it waits its turn.

Each has an end: whatever is in one, it is an error of that one, and the others go on.
"""

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from agentrft.errors import ArtifactsError, describe
from agentrft.job.inputs import file_digests
from agentrft.server.background.webhooks import tell_webhook
from agentrft.server.creation.request import content_path
from agentrft.server.creation.validation import Problem
from agentrft.server.creation.validators import NotLookedAt
from agentrft.server.offload.processes import ProcessDied
from agentrft.server.records.rows import FileRow
from agentrft.server.workers.preparation import fetch_data_files, localize_paths
from agentrft.spec import AnyJobSpec, stored_job
from agentrft.store import EventLevel

if TYPE_CHECKING:
    from agentrft.server.context import Context

logger = logging.getLogger(__name__)

VALIDATED = "Files validated, moving job to queued state"


async def left_over(context: "Context") -> list[Coroutine[Any, Any, None]]:
    """What a server that was killed had not looked at yet; each is a look that remains to be done."""
    files = await context.slowly(context.records.files)
    jobs = await context.slowly(context.records.lists.in_status, "created")
    looks = [validate_file(context, row) for row in files if row.status == "uploaded"]
    return [*looks, *(validate_job(context, job_id) for job_id in jobs)]


async def validate_file(context: "Context", row: FileRow) -> None:
    """Look at the rows of a file for training; others are taken as they are."""
    path = content_path(context.settings, row.file_id)
    try:
        await context.slowly(context.store.artifacts.fetch, path)
        problem = await context.validators.problem_of_file(path) if row.purpose == "fine-tune" else None
    except Exception as error:  # the boundary: whatever it was, the file or job has an end
        problem = f"the file could not be looked at: {_what_went_wrong(row.file_id, error)}"
    status = "processed" if problem is None else "error"
    await context.slowly(context.records.set_file_status, row.file_id, status, problem)


async def validate_job(context: "Context", job_id: str) -> None:
    """Look at the data as the job will; then it waits for its turn, or has failed."""
    try:
        spec = await context.slowly(_prepared, context, job_id)
        problem = await context.validators.problem_of(spec)
        if problem is None and await context.slowly(_queue, context, job_id, spec):
            context.wake.set()
    except ArtifactsError as error:
        problem = Problem("artifacts_unavailable", None, f"{error.cause} {error.remedy}")
    except Exception as error:  # the boundary: whatever it was, the file or job has an end
        why = _what_went_wrong(job_id, error)
        problem = Problem("job_failed", None, f"The job could not be validated: {why}.")
    if problem is not None:
        await context.slowly(_fail, context, job_id, problem)


def _prepared(context: "Context", job_id: str) -> AnyJobSpec:
    """The job's spec, with its files where they can be read."""
    job = context.store.get_job(job_id)
    spec = localize_paths(stored_job(job.spec["job"]), context.settings)
    fetch_data_files(spec, context.store.artifacts)
    return spec


def _queue(context: "Context", job_id: str, spec: AnyJobSpec) -> bool:
    context.store.record_files(job_id, file_digests(spec))
    return context.records.move(job_id, ("created",), "queued", event=("info", VALIDATED))


def _fail(context: "Context", job_id: str, problem: Problem) -> None:
    event: tuple[EventLevel, str] = ("error", problem.message)
    if context.records.move(job_id, ("created",), "failed", error=problem.stored, event=event):
        tell_webhook(context, job_id)


def _what_went_wrong(what: str, error: Exception) -> str:
    logger.exception("%s could not be looked at", what)
    if isinstance(error, NotLookedAt):
        return str(error)
    if isinstance(error, ProcessDied):
        return f"its process ended: {error}"
    return describe(error)
