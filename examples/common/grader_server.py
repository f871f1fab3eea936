"""A system's grader as an endpoint, for a server that runs no code of its clients.

python -m examples.common.grader_server SYSTEM [--port 8780]
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

Grade = Callable[[dict[str, Any], dict[str, Any]], float]


def grader_app(grade: Grade) -> FastAPI:
    """An app that answers `POST /grade` in the endpoint graders' wire format."""
    app = FastAPI(title="grader")

    # In a thread, since a grader may take a while.
    @app.post("/grade")
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"score": grade(request["sample"], request["item"])}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", help="the name of a folder of examples/")
    parser.add_argument("--port", type=int, default=8780, help="0 takes a free port; the log names it")
    arguments = parser.parse_args()
    grader = importlib.import_module(f"examples.{arguments.system}.grader")
    uvicorn.run(grader_app(grader.grade), host="127.0.0.1", port=arguments.port, access_log=False)


if __name__ == "__main__":
    main()
