"""A Python function of the user's as a tool, in this process: for laptops and tests.

    async def search(query: str, limit: int = 4) -> list[str]:
        '''Search the catalogue.

        Args:
            query: words to look for.
        '''

The signature becomes the schema, the docstring the description. Parameters named `trace_id` and `item` get the
rollout's id and the dataset row, and are not shown to the model. Raise `ToolError` for what the model did wrong; any
other exception is a failure of the tool.
"""

import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentrft.errors import UserError
from agentrft.spec import PythonToolSpec
from agentrft.tools.base import ResultStatus, ToolCall, ToolFailure, ToolResult, TrialCall
from agentrft.tools.python_calling import described, innermost, run, was_raised
from agentrft.tools.python_results import NoResult
from agentrft.tools.python_signature import Signature
from agentrft.traffic import MAX_BODY_BYTES
from agentrft.wire import WireError, clean_text, parse


class ToolError(Exception):
    """Raised by a Python tool for what the model did wrong: it reads the message as the tool's result, and the rollout
    goes on. Any other exception is a failure of the tool.
    """


class PythonTool:
    """Args:
        spec: with the folder that its module is looked for in.

    Raises:
        UserError: there is no such function, or its signature makes no schema.
    """

    def __init__(self, spec: PythonToolSpec) -> None:
        self.name = spec.tool_name
        self.idempotent = spec.may_repeat
        self._timeout_s = spec.timeout_s
        self._slots = asyncio.Semaphore(spec.max_concurrency)
        self._function = _imported(spec)
        self._signature = Signature(self._function, _where(spec), spec.tool_name)
        self.reads_item = "item" in self._signature.given
        self.description = self._signature.description if spec.description is None else spec.description
        self.parameters = spec.parameters or self._signature.schema

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """Run the function: a coroutine here, anything else in a thread.

        Raises:
            ToolFailure: "timeout", "exception" or "bad_answer" (what it returned is neither text nor JSON).
        """
        started = time.monotonic()
        given = {"trace_id": trace_id, "item": item}
        try:
            function = self._with_arguments(call.arguments, given)
        except BaseException as error:  # a type of the user's may check by code of its own
            if not was_raised(error):
                raise
            raise self._failure("exception", described(error)) from error
        if isinstance(function, ToolResult):
            return function
        try:
            async with self._slots:
                outcome = await run(function, self._timeout_s)
        except TimeoutError:
            raise self._failure("timeout", f"no answer within {self._timeout_s:g} s") from None
        latency_s = time.monotonic() - started
        error = None if outcome.error is None else innermost(outcome.error)
        match error:
            case None:
                return _result(outcome.text, "ok", latency_s)
            case ToolError():
                return _result(described(error).partition(": ")[2], "client_error", latency_s)
            case NoResult():
                raise self._failure("bad_answer", str(error)) from error
            case _:
                raise self._failure("exception", described(error)) from error

    async def probe(self, trial: TrialCall | None) -> None:
        """Nothing to ask: the function was imported."""

    async def close(self) -> None:
        """Nothing to release."""

    def _with_arguments(self, arguments: str, given: dict[str, Any]) -> Callable[[], Any] | ToolResult:
        """The function, ready to be called; or what the model reads of arguments that do not fit."""
        try:
            by_place, by_name = self._signature.arguments(parse(arguments, lossy=True), given)
        except (ValidationError, WireError) as error:
            text = json.dumps({"error": _fault(error)}, ensure_ascii=False)
            return ToolResult(text, "client_error", 0.0, attempts=0)
        return partial(self._function, *by_place, **by_name)

    def _failure(self, kind: str, message: str) -> ToolFailure:
        return ToolFailure(self.name, kind, message, 1, faults={kind: 1}, repeatable=self.idempotent)


def _result(text: str, status: ResultStatus, latency_s: float) -> ToolResult:
    if len(text.encode(errors="replace")) > MAX_BODY_BYTES:
        text = f"413 Payload Too Large: the tool's answer is over {MAX_BODY_BYTES} bytes."
        return ToolResult(text, "too_large", latency_s, attempts=1)
    return ToolResult(text, status, latency_s, attempts=1)


def _fault(error: ValidationError | WireError) -> str:
    if isinstance(error, WireError):
        return str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    return clean_text(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _where(spec: PythonToolSpec) -> str:
    return f"tool '{spec.tool_name}': function: {spec.function}"


def _imported(spec: PythonToolSpec) -> Callable[..., Any]:
    module_name, _, function_name = spec.function.partition(":")
    folder = str(spec.folder or Path.cwd())
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name, None)
    except BaseException as error:  # importing runs the user's code, which may even call sys.exit()
        if not was_raised(error):
            raise
        raise UserError(
            f"{_where(spec)}: {module_name} cannot be imported: {described(error)}",
            f"Put it into {folder}, or install it.",
        ) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    if not callable(function):
        found = sorted(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise UserError(f"{_where(spec)}: no such function.", f"{module_name} has: {', '.join(found) or 'none'}.")
    return function
