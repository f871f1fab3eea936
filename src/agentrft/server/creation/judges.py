"""Judges that are models of this server: found by their names when a job or a grader comes in.

The answer is written into the grader, so a job asks the same model to its end, whatever is named so later.
"""

from collections.abc import Callable
from typing import Any

from agentrft.server.errors import ApiError
from agentrft.spec import GraderSpec, JobSpec
from agentrft.spec.graders import AnyJudgeSpec, MultiGraderSpec

OF_OTHER_SERVERS = ("headers", "api_key_env")


def with_own_judges(spec: JobSpec, is_here: Callable[[str], bool]) -> JobSpec:
    """The job, its judges that are models of this server marked so. Raises as `own_judge`."""
    holdouts = {name: own_judge(grader, is_here) for name, grader in spec.holdout_graders.items()}
    return spec.model_copy(update={"grader": own_judge(spec.grader, is_here), "holdout_graders": holdouts})


def own_judge(grader: GraderSpec, is_here: Callable[[str], bool]) -> Any:
    """The grader, with `served_here` where it is a judge without a `base_url`, and its model is one of this server.

    Args:
        is_here: whether this server has a model of that name.

    Raises:
        ApiError: it says `served_here` of a model that is not here, or has what is meant for another server.
    """
    if isinstance(grader, MultiGraderSpec):
        parts = {name: own_judge(one, is_here) for name, one in grader.graders.items()}
        return grader.model_copy(update={"graders": parts})
    if not isinstance(grader, AnyJudgeSpec) or "base_url" in grader.model_fields_set:
        return grader
    if not is_here(grader.model):
        if grader.served_here:
            raise _wrong(grader, f"served_here: there is no model '{grader.model}' here.")
        return grader
    for name in OF_OTHER_SERVERS:
        if name in grader.model_fields_set and getattr(grader, name):
            remedy = "Leave it out, or give the `base_url` of the server that it is for."
            raise _wrong(grader, f"{name}: '{grader.model}' is a model of this server, which takes none. {remedy}")
    return grader.model_copy(update={"served_here": True})


def _wrong(grader: AnyJudgeSpec, message: str) -> ApiError:
    return ApiError(400, f"grader '{grader.name}': {message}", param="grader", code="invalid_grader")
