"""What a browser that asks again is told where nothing has changed: a job's tag (ETag, RFC 9110), and no page.

Looking at a running job costs then a few look-ups and no query over its rollouts.
"""

import hashlib
import json
from collections.abc import Sequence

from fastapi import Request, Response

from agentrft.dashboard.runs import PROCESS, JobData, Runs
from agentrft.errors import UserError
from agentrft.store import JobRow


def tag_of(request: Request, job: JobData, actions: Sequence[str]) -> str:
    """Of the job, of what can be done with it, and of the job that it is compared with."""
    parts = [job.tag, *actions]
    other = request.query_params.get("with")
    if other and other != job.job_id:
        try:
            parts.append(job.runs.job(other).tag)
        except UserError:
            pass  # the page says so
    return f'"{"-".join(parts)}"'


def tag_of_jobs(runs: Runs, jobs: Sequence[JobRow], actions: Sequence[Sequence[str]]) -> str:
    """Of the list of jobs; `actions` has what can be done with each."""
    seen = (PROCESS, [vars(job) for job in jobs], runs.store.newest_numbers(), actions)
    return f'"{hashlib.sha256(json.dumps(seen, default=str).encode()).hexdigest()[:24]}"'


def not_modified(tag: str) -> Response:
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-store"})
