"""Runs attacks as another user, for `test_attacks.py`: a line of JSON in for each, a line of JSON out."""

import asyncio
import json
import sys
from typing import Any

from agentrft.graders import GraderFailure, GraderSample
from agentrft.graders.python import PythonGrader
from agentrft.spec.graders import PythonGraderSpec

SAMPLE = GraderSample("the answer")


async def attacked(source: str, item: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """What an attack brings, and whether the grader then answers its next call.

    Returns:
        "outcome": "reached" if it returned 1, "nothing" for another number, else the failure; "next": the next score.
    """
    spec = PythonGraderSpec(type="python", name="mine", source=source, timeout_s=timeout_s, isolated=False)
    grader = PythonGrader(spec)
    try:
        try:
            grade = await grader.grade(SAMPLE, item=item, trace_id="trace_1")
            outcome = "reached" if grade.score == 1 else "nothing"
        except GraderFailure as failure:
            outcome = f"{failure.kind}: {failure}"
        return {"outcome": outcome, "next": await _next_score(grader)}
    finally:
        await grader.close()


async def _next_score(grader: PythonGrader) -> float:
    """The score of an item that the attack does nothing with. What it left behind may spoil one call."""
    for _ in range(2):
        try:
            return (await grader.grade(SAMPLE, item={"rest": True}, trace_id="trace_2")).score
        except GraderFailure:
            pass
    return -1.0


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(attacked(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
