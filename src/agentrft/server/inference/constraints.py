"""What a request demands of a turn beyond being sampled: a call, strict arguments, or an answer in a format."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentrft.server.inference.errors import ApiError
from agentrft.tools import argument_fault
from agentrft.wire import WireError, parse


@dataclass(frozen=True)
class OutputFormat:
    """JSON as the answer. `schema` is None where any object will do; `field` is the request's that demands it."""

    schema: dict[str, Any] | None = None
    name: str = ""
    description: str = ""
    field: str = "response_format"

    @property
    def instruction(self) -> str:
        """What the model is told."""
        if self.schema is None:
            return "Answer with one JSON object and nothing else."
        about = f" ({self.description})" if self.description else ""
        return (
            f"Answer with one JSON object{about} and nothing else. It must fit this JSON Schema:\n"
            f"{json.dumps(self.schema, ensure_ascii=False)}"
        )

    def fault(self, content: str) -> str | None:
        """Why the answer is not in this format; None if it is."""
        try:
            value = parse(content, lossy=True)
        except WireError as error:
            return str(error)
        if not isinstance(value, dict):
            return f"it is a JSON {type(value).__name__}, not an object"
        return None if self.schema is None else argument_fault(self.schema, value)


@dataclass(frozen=True)
class ToolRule:
    """Which calls a turn must have. `name` is the function that must be called, where one is named; `allowed` are those
    that may be, None for all.

    "none" needs no check: the model is shown no tools then.
    """

    kind: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    allowed: frozenset[str] | None = None

    def kept(self, calls: Sequence[dict[str, Any]], *, parallel: bool) -> list[dict[str, Any]]:
        """The calls that are answered: only of functions that may be called, and one where parallel calls are off."""
        allowed = self.allowed if self.name is None else {self.name}
        wanted = [call for call in calls if allowed is None or call["function"]["name"] in allowed]
        return wanted if parallel else wanted[:1]


@dataclass(frozen=True)
class Constraints:
    """All demands on a turn. `strict_schemas` are those of the functions with `strict: true`, by name."""

    rule: ToolRule
    strict_schemas: dict[str, dict[str, Any]]
    output: OutputFormat | None

    @property
    def demanding(self) -> bool:
        return self.rule.kind in ("required", "named") or bool(self.strict_schemas) or self.output is not None

    def fault(self, content: str, calls: Sequence[dict[str, Any]], finish_reason: str) -> ApiError | None:
        """The error that this turn would be answered with; None if it is as demanded.

        An answer that was cut off is nobody's format: its `finish_reason` says so to the client.
        """
        if self.rule.kind in ("required", "named") and not calls:
            wanted = f"'{self.rule.name}'" if self.rule.name else "any tool"
            return _unmet(f"The model did not call {wanted}.", "tool_choice", "tool_choice_not_met")
        for call in calls:
            fault = self._argument_fault(call["function"])
            if fault is not None:
                message = f"The model called '{call['function']['name']}' with arguments that do not fit: {fault}"
                return _unmet(message, "tools", "tool_arguments_not_met")
        if self.output is not None and not calls and finish_reason == "stop":
            fault = self.output.fault(content)
            if fault is not None:
                message = f"The model's answer is not in the asked format: {fault}"
                return _unmet(message, self.output.field, "response_format_not_met")
        return None

    def _argument_fault(self, function: dict[str, Any]) -> str | None:
        schema = self.strict_schemas.get(function["name"])
        if schema is None:
            return None
        try:
            return argument_fault(schema, parse(function["arguments"], lossy=True))
        except WireError as error:
            return str(error)


def _unmet(message: str, param: str, code: str) -> ApiError:
    return ApiError(500, message, code=code, param=param)
