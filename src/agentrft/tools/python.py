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
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from agentrft.errors import UserError
from agentrft.spec import PythonToolSpec
from agentrft.tools.base import ToolCall, ToolFailure, ToolResult
from agentrft.traffic import MAX_BODY_BYTES

GIVEN = ("trace_id", "item")
ARGUMENT_LINE = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.+)$")


class ToolError(Exception):
    """What the model did wrong; it reads the message."""


class PythonTool:
    """Args:
        spec: with the folder that its module is looked for in.

    Raises:
        UserError: there is no such function, or its signature makes no schema.
    """

    def __init__(self, spec: PythonToolSpec) -> None:
        self.name = spec.tool_name
        self.idempotent = spec.idempotent
        self._timeout_s = spec.timeout_s
        self._slots = asyncio.Semaphore(spec.max_concurrency)
        self._function = _imported(spec)
        parameters = inspect.signature(self._function).parameters
        self._given = [name for name in GIVEN if name in parameters]
        self.reads_item = "item" in self._given
        self._model = _model(spec, self._function)
        text, arguments = _described(inspect.getdoc(self._function) or "")
        self.description = text if spec.description is None else spec.description
        self.parameters = spec.parameters or _schema(self._model, arguments)

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """Run the function: a coroutine here, anything else in a thread.

        Raises:
            ToolFailure: "timeout", "exception" or "bad_answer" (what it returned is neither text nor JSON).
        """
        started = time.monotonic()
        try:
            values = self._model.model_validate(json.loads(call.arguments))
        except ValidationError as error:
            first = error.errors()[0]
            text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            return ToolResult(json.dumps({"error": text}), "client_error", 0.0, attempts=0)
        given = {"trace_id": trace_id, "item": item}
        keywords = {name: getattr(values, name) for name in type(values).model_fields}
        keywords |= {name: given[name] for name in self._given}
        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                value = await self._run(keywords)
        except TimeoutError:
            raise self._failure("timeout", f"no answer within {self._timeout_s:g} s") from None
        except ToolError as error:
            return ToolResult(str(error), "client_error", time.monotonic() - started, attempts=1)
        except Exception as error:  # whatever the user's code raises is reported as the tool's failure
            raise self._failure("exception", f"{type(error).__name__}: {error}") from error
        return self._result(value, time.monotonic() - started)

    async def probe(self) -> None:
        """Nothing to ask: the function was imported."""

    async def close(self) -> None:
        """Nothing to release."""

    async def _run(self, keywords: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**keywords)
        return await asyncio.to_thread(self._function, **keywords)

    def _result(self, value: Any, latency_s: float) -> ToolResult:
        try:
            output = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise self._failure("bad_answer", f"returned a {type(value).__name__}: {error}") from error
        size = len(output.encode(errors="replace"))
        if size > MAX_BODY_BYTES:
            text = f"413 Payload Too Large: the tool's answer is over {MAX_BODY_BYTES} bytes."
            return ToolResult(text, "too_large", latency_s, attempts=1)
        return ToolResult(output, "ok", latency_s, attempts=1)

    def _failure(self, kind: str, message: str) -> ToolFailure:
        return ToolFailure(self.name, kind, message, 1, faults={kind: 1}, repeatable=self.idempotent)


def _imported(spec: PythonToolSpec) -> Callable[..., Any]:
    module_name, _, function_name = spec.function.partition(":")
    where = f"tool '{spec.tool_name}': function: {spec.function}"
    folder = str(spec.folder or Path.cwd())
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise UserError(
            f"{where}: {module_name} cannot be imported: {type(error).__name__}: {error}",
            f"Put it into {folder}, or install it.",
        ) from error
    finally:
        sys.path.remove(folder)
    function = getattr(module, function_name, None)
    if not callable(function):
        found = sorted(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise UserError(f"{where}: no such function.", f"{module_name} has: {', '.join(found) or 'none'}.")
    return function


def _model(spec: PythonToolSpec, function: Callable[..., Any]) -> type[BaseModel]:
    """The arguments as a pydantic model."""
    where = f"tool '{spec.tool_name}': function: {spec.function}"
    fields: dict[str, Any] = {}
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, ValueError) as error:
        raise UserError(f"{where}: its annotations cannot be read: {error}", "Import what they name.") from error
    for name, parameter in signature.parameters.items():
        if name in GIVEN:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(f"{where}: parameter '{parameter}' has no name of its own.", "Give each argument a name.")
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    try:
        return create_model(spec.tool_name, __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise UserError(f"{where}: no schema for its signature: {error}", "Use types that JSON has.") from error


def _schema(model: type[BaseModel], arguments: dict[str, str]) -> dict[str, Any]:
    schema = model.model_json_schema()
    schema.pop("title", None)
    for name, entry in schema.get("properties", {}).items():
        entry.pop("title", None)
        if name in arguments:
            entry.setdefault("description", arguments[name])
    return {"type": "object", "properties": {}, **schema}


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """The docstring's text before its sections, and what its `Args:` say of each."""
    text, _, rest = docstring.partition("\nArgs:\n")
    text = re.split(r"\n(?:Returns|Raises|Yields|Example|Examples):\n", text)[0]
    arguments: dict[str, str] = {}
    for line in rest.splitlines():
        if line and not line[0].isspace():
            break
        if found := ARGUMENT_LINE.match(line):
            arguments[found[1]] = found[2].strip()
    return text.strip(), arguments
