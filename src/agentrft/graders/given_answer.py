"""An answer that a person wrote, with the calls that were made before it, as graders see a finished rollout."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.graders.base import CallFact, GraderSample, TraceFacts
from agentrft.wire import dump


class OutputToolsError(ValueError):
    """`output_tools` are no list of calls.

    Attributes:
        field: at fault, such as `output_tools[0].function.name`.
    """

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.field = field


def read_output_tools(given: Any) -> list[dict[str, Any]]:
    """Calls in Chat Completions shape, complete: `sample.output_tools`.

    Each needs its `function.name`. An `id` is made where none is given; `arguments` are text as a model writes it, or
    an object; none at all are `{}`.

    Raises:
        OutputToolsError: they are something else.
    """
    if given is None:
        return []
    if not isinstance(given, list):
        raise OutputToolsError("output_tools", "a list of calls in Chat Completions shape is needed.")
    return [_read_call(call, f"output_tools[{index}]", index) for index, call in enumerate(given)]


def given_sample(
    answer: str, output_tools: Sequence[dict[str, Any]] = (), prompt: Sequence[Mapping[str, Any]] = ()
) -> GraderSample:
    """The rollout that ended in an answer. All calls were made in its first turn, and went well.

    Args:
        output_tools: as `read_output_tools` returns them.
        prompt: the messages before.
    """
    calls = list(output_tools)
    messages = [dict(message) for message in prompt]
    if calls:
        messages.append({"role": "assistant", "content": "", "tool_calls": calls})
    messages.append({"role": "assistant", "content": answer})
    functions = [call["function"] for call in calls]
    facts = [CallFact(one["name"], one["arguments"], "ok", 0.0, 0) for one in functions]
    return GraderSample(answer, calls, messages, TraceFacts(facts, turns=2 if calls else 1))


def _read_call(given: Any, where: str, index: int) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise OutputToolsError(where, "an object with `function` is needed.")
    kind, call_id, function = given.get("type"), given.get("id"), given.get("function")
    if kind not in (None, "function"):
        raise OutputToolsError(f"{where}.type", "'function' is the only type.")
    if not isinstance(call_id, str | None):
        raise OutputToolsError(f"{where}.id", "a string is needed.")
    if not isinstance(function, dict):
        raise OutputToolsError(f"{where}.function", "an object with `name` and `arguments` is needed.")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise OutputToolsError(f"{where}.function.name", "a string is needed.")
    if not isinstance(arguments, str | dict | None):
        raise OutputToolsError(f"{where}.function.arguments", "a string or an object is needed.")
    text = arguments if isinstance(arguments, str) else dump(arguments or {})
    return {"id": call_id or f"call_{index}", "type": "function", "function": {"name": name, "arguments": text}}
