"""`python -m agentrft.server.offload.grading_process`: makes graders, and grades one answer with each."""

import asyncio
import traceback
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from agentrft.errors import UserError
from agentrft.graders import Grade, GraderFailure, GraderUse, create_grader, dry_run, given_sample
from agentrft.graders.own_server import grading_for_told
from agentrft.rollout import Rollout, grader_sample
from agentrft.server.offload.child import Told
from agentrft.spec import GraderSpec
from agentrft.traffic.addresses import refusing_link_local

GRADERS: TypeAdapter[Any] = TypeAdapter(GraderSpec)


def main() -> None:
    told = Told()
    for request in told:
        try:
            told.answer({"given": asyncio.run(_do(request))})
        except UserError as error:
            told.answer({"refused": [error.cause, error.remedy]})
        except (RecursionError, MemoryError) as error:
            told.answer({"refused": [f"the grader is too large: {type(error).__name__}.", "Make it simpler."]})
        except Exception:  # the boundary: whatever it was, the server logs it and answers
            told.answer({"broken": traceback.format_exc()})


async def _do(request: Mapping[str, Any]) -> dict[str, Any]:
    """The grade, or nothing where the grader was only to be made.

    Raises:
        UserError: it cannot be made, or, where it is only to be looked at, its code cannot be loaded.
    """
    spec = GRADERS.validate_python(request["spec"])
    with refusing_link_local(), grading_for_told(request):
        grader = create_grader(spec)
    try:
        if "record" in request:
            sample = grader_sample(Rollout.from_dict(request["record"]))
        elif "text" in request:
            sample = given_sample(request["text"], request["output_tools"])
        else:
            await dry_run(spec)
            return {}
        try:
            grade = await grader.grade(sample, item=request["item"], trace_id=request["trace_id"])
        except GraderFailure as failure:
            told = {"grader": failure.grader, "kind": failure.kind, "message": str(failure)}
            return {"failure": told, "usage": _usage(failure.uses)}
        return {**_given(grade, grader.name), "has_json": "output_json" in sample.as_template_value()}
    finally:
        await grader.close()


def _given(grade: Grade, name: str) -> dict[str, Any]:
    uses = grade.uses(name)
    return {
        "score": grade.score,
        "sub_scores": grade.sub_scores,
        "reason": grade.reason,
        "usage": _usage(uses),
        "missing": grade.missing,
        "is_cut": any(use.faults.get("cut_text") for use in uses.values()),
        "is_without_value": any(use.faults.get("formula") for use in uses.values()),
    }


def _usage(uses: Mapping[str, GraderUse]) -> dict[str, dict[str, int]]:
    return {name: use.usage for name, use in uses.items() if use.usage}


if __name__ == "__main__":
    main()
