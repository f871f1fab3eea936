"""Python functions as tool endpoints: POST a function call, get its output.

An example's `tools.py` gives its functions to `tool_app`, and runs the app with `serve`. A function takes the call's
arguments and its rollout's trace id, and, where it has a third parameter, the sample's row; it returns the text that
the agent reads.
"""

import argparse
import inspect
import json
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel

Output = str | Awaitable[str]
Tool = Callable[[dict[str, Any], str], Output] | Callable[[dict[str, Any], str, dict[str, Any]], Output]
State = TypeVar("State")
# Rollouts whose state is kept. A server that trains for weeks must not keep them all.
MOST_ROLLOUTS = 4096


class BadArguments(Exception):
    """What is wrong with a call, in words. The agent reads it as the tool's result and can do better."""


class FunctionCall(BaseModel):
    """What the agent's harness sends; `arguments` is JSON text, as the model wrote it, and `item` the sample's row."""

    call_id: str
    arguments: str
    trace_id: str = ""
    item: dict[str, Any] = {}


class PerRollout(Generic[State]):
    """State of each rollout, by its trace id: made at its first call, and dropped when too many others came since."""

    def __init__(self, make: Callable[[], State], most: int = MOST_ROLLOUTS) -> None:
        self._make, self._most = make, most
        self._states: OrderedDict[str, State] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, trace_id: str) -> State:
        with self._lock:
            if trace_id not in self._states:
                self._states[trace_id] = self._make()
            self._states.move_to_end(trace_id)
            if len(self._states) > self._most:
                self._states.popitem(last=False)
            return self._states[trace_id]


def tool_app(title: str, load: Callable[[], Mapping[str, Tool]]) -> FastAPI:
    """An app with one endpoint for each tool, `/tools/NAME`.

    Args:
        load: makes the tools, once, before the first request is answered; an index is built here. Tools that are plain
            functions run in threads; those that take under a millisecond may be `async` and run where they are.
    """

    @asynccontextmanager
    async def loaded(app: FastAPI) -> AsyncIterator[None]:
        app.state.tools = await run_in_threadpool(load)
        yield

    app = FastAPI(title=title, lifespan=loaded)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/tools/{name}")
    async def call(name: str, call: FunctionCall, request: Request) -> JSONResponse:
        tool: Tool | None = request.app.state.tools.get(name)
        if tool is None:
            return JSONResponse({"error": f"there is no tool {name!r}"}, status_code=404)
        try:
            output = await _output(tool, _arguments(call.arguments), call)
        except BadArguments as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"type": "function_call_output", "call_id": call.call_id, "output": output})

    return app


def text_argument(arguments: dict[str, Any], name: str) -> str:
    """An argument that must be a text with something in it.

    Raises:
        BadArguments: it is missing, of another type, or blank.
    """
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadArguments(f"{name} must be a non-empty string")
    return value


def serve(app: FastAPI, port: int, arguments: Sequence[str] | None = None) -> None:
    """Answer on loopback until a signal, on `--port` or else on `port`; 0 takes a free one, which the log names.

    Args:
        arguments: of the command line, where the caller has taken its own out of it.
    """
    parser = argparse.ArgumentParser(description=app.title)
    parser.add_argument("--port", type=int, default=port, help="0 takes a free port; the log names it")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args(arguments).port, access_log=False)


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        raise BadArguments("arguments must be JSON") from None
    if not isinstance(arguments, dict):
        raise BadArguments("arguments must be a JSON object")
    return arguments


async def _output(tool: Callable[..., Output], arguments: dict[str, Any], call: FunctionCall) -> str:
    takes_item = len(inspect.signature(tool).parameters) > 2
    given = (arguments, call.trace_id, call.item) if takes_item else (arguments, call.trace_id)
    if inspect.iscoroutinefunction(tool):
        return await tool(*given)
    output = await run_in_threadpool(tool, *given)
    assert isinstance(output, str)
    return output
