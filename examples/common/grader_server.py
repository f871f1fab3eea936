"""A system's grader as an endpoint, for a server that runs no code of its clients.

python -m examples.common.grader_server SYSTEM [--port 8780]
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

Grade = Callable[[dict[str, Any], dict[str, Any]], float]
SubScores = Callable[[dict[str, Any], dict[str, Any]], dict[str, float]]


class FinishedRollout(BaseModel):
    """What an endpoint grader is sent, as far as graders of examples read it."""

    sample: dict[str, Any]
    item: dict[str, Any]


def add_grader(app: FastAPI, grade: Grade, sub_scores: SubScores | None = None) -> None:
    """Have an app answer `POST /grade` in the endpoint graders' wire format, with sub-scores where there are some."""

    # In a thread, since a grader may take a while.
    @app.post("/grade")
    def answer(rollout: FinishedRollout) -> dict[str, Any]:
        found: dict[str, Any] = {"score": grade(rollout.sample, rollout.item)}
        return found if sub_scores is None else {**found, "sub_scores": sub_scores(rollout.sample, rollout.item)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", help="the name of a folder of examples/")
    parser.add_argument("--port", type=int, default=8780, help="0 takes a free port; the log names it")
    arguments = parser.parse_args()
    grader = importlib.import_module(f"examples.{arguments.system}.grader")
    app = FastAPI(title=f"The grader of {arguments.system}")
    add_grader(app, grader.grade)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, access_log=False)


if __name__ == "__main__":
    main()
