"""Which of the calls that the model writes are made, and what it reads in place of the others.

All of these are the model's own faults: it reads why, and can do better in its next turn.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft import wire
from agentrft.chat import ParsedCall
from agentrft.tools import argument_fault


@dataclass(frozen=True)
class CallRules:
    """What a job allows.

    Attributes:
        choice: "auto"; "none": the model sees no tools; "required": an answer before any call is a failure of the
            model; or the name of the tool that must be called first.
        parallel: whether a turn may have several calls.
        max_calls: in one rollout; None for no limit.
        max_calls_of: the same by tool.
        named: whether `choice` is a tool's name.
    """

    choice: str = "auto"
    parallel: bool = True
    max_calls: int | None = None
    max_calls_of: Mapping[str, int] = field(default_factory=dict)
    named: bool = False

    @property
    def shows_tools(self) -> bool:
        return self.named or self.choice != "none"

    @property
    def wants_a_call(self) -> bool:
        return self.named or self.choice == "required"


@dataclass(frozen=True)
class Refusal:
    """A call that is not made: `status` for the record, `text` for the model."""

    status: str
    text: str


def judge_calls(
    rules: CallRules, calls: Sequence[ParsedCall], made: Counter[str], schemas: Mapping[str, dict[str, Any]]
) -> list[Refusal | None]:
    """For each call of a turn, why it is not made, or None.

    Args:
        made: calls that the rollout made before, by tool; those of this turn are added.
        schemas: JSON Schema of each callable tool's arguments, by name.
    """
    return list(_judged(rules, calls, made, schemas))


def _judged(
    rules: CallRules, calls: Sequence[ParsedCall], made: Counter[str], schemas: Mapping[str, dict[str, Any]]
) -> Iterator[Refusal | None]:
    for place, call in enumerate(calls):
        refusal = _written_wrong(call, schemas) or _against_rules(rules, call, place, made)
        if refusal is None:
            made[call.name or ""] += 1
        yield refusal


def _written_wrong(call: ParsedCall, schemas: Mapping[str, dict[str, Any]]) -> Refusal | None:
    if call.error is not None or call.arguments is None or call.name is None:
        return _refusal("bad_call", call.error or "arguments must be a JSON object")
    if call.name not in schemas:
        known = ", ".join(sorted(schemas)) or "none"
        return _refusal("unknown_tool", f"no tool '{call.name}'; there are: {known}")
    fault = argument_fault(schemas[call.name], wire.parse(call.arguments))
    return None if fault is None else _refusal("bad_arguments", f"{call.name}: {fault}")


def _against_rules(rules: CallRules, call: ParsedCall, place: int, made: Counter[str]) -> Refusal | None:
    if rules.named and call.name != rules.choice and not made:
        return _refusal("not_allowed", f"call '{rules.choice}' first")
    if place > 0 and not rules.parallel:
        return _refusal("not_allowed", "one call at a time: only the first was made")
    if rules.max_calls is not None and made.total() >= rules.max_calls:
        return _refusal("over_limit", f"no calls are left: {rules.max_calls} were made; answer now")
    most = rules.max_calls_of.get(call.name or "")
    if most is not None and made[call.name or ""] >= most:
        return _refusal("over_limit", f"no calls of '{call.name}' are left: {most} were made")
    return None


def _refusal(status: str, error: str) -> Refusal:
    return Refusal(status, wire.dump({"error": error}))


def cut(output: str, most: int | None) -> str | None:
    """An output of more than `most` characters, cut, with a notice; None if it is short enough."""
    if most is None or len(output) <= most:
        return None
    return f"{output[:most]}\n[cut: {most} of {len(output)} characters are shown]"
