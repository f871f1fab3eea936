"""The tools `compile`, `run` and `time`, and the grader, in one server: `python -m examples.kernels.tools`.

Both are here because both need gcc and the jail. The grader (`/grade`) trusts nothing that the tools found: it takes
the sources from the calls that the rollout made, and judges them anew.
"""

import argparse
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from examples.common.tool_server import BadArguments, Call, PerRollout, Tool, serve, tool_app
from examples.kernels.bench import Bench
from examples.kernels.grader import grade
from examples.kernels.graphs import Graph

NOTHING_COMPILED = "nothing compiled yet"


@dataclass
class Draft:
    """The kernel of a rollout that compiled last; None before one did."""

    library: bytes | None = None


class KernelTools:
    """The three tools over one bench, with a draft for each rollout."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._drafts = PerRollout(Draft)

    def compile(self, call: Call) -> str:
        """Compile `source`; it becomes the rollout's draft. Says "ok", or the first fault."""
        compiled = self._bench.compile(_graph(call), call.text("source"))
        if compiled.library is None:
            return compiled.diagnostic
        self._drafts(call.trace_id).library = compiled.library
        return "ok"

    def run(self, call: Call) -> str:
        """Check the draft on fresh inputs. Says how far off it is, or the first element that is wrong."""
        checked = self._bench.check(_graph(call), self._library(call))
        return f"ok, max error {checked.error:.0e}" if checked.correct else f"wrong: {checked.problem}"

    def time(self, call: Call) -> str:
        """Time the draft. Says how many times as fast as PyTorch it is."""
        timed = self._bench.time(_graph(call), self._library(call))
        return f"wrong: {timed.problem}" if timed.problem else f"{timed.speedup:.2g}x PyTorch"

    def tools(self) -> dict[str, Tool]:
        """By name."""
        return {"compile": self.compile, "run": self.run, "time": self.time}

    def _library(self, call: Call) -> bytes:
        library = self._drafts(call.trace_id).library
        if library is None:
            raise BadArguments(NOTHING_COMPILED)
        return library


class GradeCall(BaseModel):
    """What an endpoint grader is sent."""

    sample: dict[str, Any]
    item: dict[str, Any]


def app(*, trusted: bool = False) -> FastAPI:
    """The server. The bench is made before the first request is answered.

    Args:
        trusted: run kernels without bubblewrap.
    """
    # Made once, also where the app starts twice.
    lock, made = threading.Lock(), list[Bench]()

    def bench() -> Bench:
        with lock:
            if not made:
                made.append(Bench(trusted=trusted))
            return made[0]

    def load() -> Mapping[str, Tool]:
        return KernelTools(bench()).tools()

    made_app = tool_app("Kernels: compile, run, time, grade", load)

    @made_app.post("/grade")
    async def grade_rollout(call: GradeCall) -> dict[str, Any]:
        try:
            return await run_in_threadpool(lambda: grade(call.sample, call.item, bench()))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    return made_app


def _graph(call: Call) -> Graph:
    try:
        return Graph.from_json(call.item.get("graph"))
    except ValueError as error:
        raise BadArguments(str(error)) from None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trusted", action="store_true", help="run kernels without bubblewrap: of your own alone")
    # Graphs come with the calls: the server needs no data.
    serve(lambda given: app(trusted=given.trusted), port=8770, data=Path("data"), options=options)


if __name__ == "__main__":
    main()
