"""`python -m agentrft.server.creation.validation_process`: looks through uploaded files and the data of jobs.

What to look at comes as a line of JSON: `file`, a path, or `job`, a job's spec.
"""

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agentrft.errors import describe
from agentrft.graders.own_server import grading_for_told
from agentrft.server.creation.model_validation import problem_of_model
from agentrft.server.creation.validation import problem_of, problem_of_file
from agentrft.server.offload.child import Told
from agentrft.spec import stored_job


def main() -> None:
    told = Told()
    for request in told:
        try:
            told.answer({"problem": _problem(request)})
        except Exception as error:  # the boundary: whatever it was, the server logs it, and the file or job has an end
            told.answer({"broken": describe(error), "traceback": traceback.format_exc()})


def _problem(request: Mapping[str, Any]) -> Any:
    if "file" in request:
        return problem_of_file(Path(request["file"]))
    with grading_for_told(request):
        job = stored_job(request["job"])
        problem = problem_of(job) or problem_of_model(job)
    return None if problem is None else asdict(problem)


if __name__ == "__main__":
    main()
