"""What a browser that asks again is told where nothing has changed: a job's tag (ETag, RFC 9110), and no page.

Looking at a running job costs then a few look-ups and no query over its rollouts.
"""

from collections.abc import Sequence

from fastapi import Request

from agentrft.dashboard.runs import JobData
from agentrft.errors import UserError


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
