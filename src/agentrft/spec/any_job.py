"""A job of any method."""

from collections.abc import Mapping
from typing import Any

from agentrft.errors import UserError
from agentrft.spec.job import JobSpec
from agentrft.spec.tuning import TuningSpec

AnyJobSpec = JobSpec | TuningSpec
REINFORCEMENT = "reinforcement"


def stored_job(fields: Mapping[str, Any]) -> AnyJobSpec:
    """A job from what was dumped of it; older ones do not say their method."""
    kind = JobSpec if fields.get("method", REINFORCEMENT) == REINFORCEMENT else TuningSpec
    return kind.model_validate(fields)


def with_rollouts(job: AnyJobSpec, source: str) -> JobSpec:
    """The job, for what takes tools and a grader.

    Raises:
        UserError: it is of another method.
    """
    if isinstance(job, JobSpec):
        return job
    raise UserError(
        f"{source}: a job of the method {job.method} has no tools and no grader, so there is nothing to roll out.",
        "`agentrft train` trains it; to measure its weights give a job with tools and a grader, too: "
        "`agentrft eval JOB --job job.yaml`.",
    )
