"""JSONL to samples. All faults of a file are reported at once, before anything else is loaded."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrft.errors import UserError

ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_FAULTS_SHOWN = 20


@dataclass(frozen=True)
class Sample:
    """One dataset row.

    Attributes:
        sample_id: stable across runs: the row's number and a digest of its content.
        messages: Chat Completions messages, the prompt of every rollout of this sample.
        tools: the row's own Chat Completions tool specs; empty means the job's tools.
        item: the row without `messages` and `tools`; what templates call `item.*`.
    """

    sample_id: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    item: dict[str, Any] = field(default_factory=dict)


class Faults:
    """What is wrong with a file: how much, and the first few in words."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.count = 0

    def add(self, fault: str) -> None:
        self.count += 1
        if len(self.shown) < MAX_FAULTS_SHOWN:
            self.shown.append(fault)

    def __str__(self) -> str:
        shown = "\n".join(f"  - {fault}" for fault in self.shown)
        rest = f"\n  and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        return f"{self.count} fault(s):\n{shown}{rest}"


def load_samples(path: Path) -> list[Sample]:
    """Read a training or validation file.

    Raises:
        UserError: the file is missing or empty, or rows are faulty: each with line, field and expectation.
    """
    return list(each_sample(path))


def load_demonstrations(path: Path) -> list[Sample]:
    """Read a warm-start file: whole conversations, each ending in an assistant's message.

    Raises:
        UserError: as `load_samples`.
    """
    return list(each_demonstration(path))


def each_sample(path: Path) -> Iterator[Sample]:
    """As `load_samples`, one at a time, for files of any size; faults are raised after the last good row."""
    return _each(path, _prompt_faults)


def each_demonstration(path: Path) -> Iterator[Sample]:
    """As `load_demonstrations`, one at a time; faults are raised after the last good row."""
    return _each(path, _demonstration_faults)


def _each(path: Path, faults_of: Callable[[dict[str, Any]], list[str]]) -> Iterator[Sample]:
    if not path.is_file():
        raise UserError(f"{path}: no such data file.", "Correct the path in the job; it is relative to the job's file.")
    faults, is_empty = Faults(), True
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        is_empty = False
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            faults.add(f"line {number}: not valid JSON: {error}")
            continue
        row_faults = faults_of(row) if isinstance(row, dict) else ["expected a JSON object"]
        for fault in row_faults:
            faults.add(f"line {number}: {fault}")
        if not row_faults:
            yield _sample(number, line, row)
    if faults.count:
        raise UserError(f"{path}: {faults}", "Correct these lines; nothing was started.")
    if is_empty:
        raise UserError(
            f"{path}: the file has no rows.", 'Add JSON lines such as {"messages": [...], "answer": "..."}.'
        )


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for text in file:
            # A lone carriage return ends a line, too.
            yield from text.splitlines()


def _sample(number: int, line: bytes, row: dict[str, Any]) -> Sample:
    digest = hashlib.sha256(line.strip()).hexdigest()[:8]
    item = {key: value for key, value in row.items() if key not in ("messages", "tools")}
    return Sample(f"{number:05d}-{digest}", row["messages"], row.get("tools") or [], item)


def _prompt_faults(row: dict[str, Any]) -> list[str]:
    faults = _message_faults(row) + _tool_faults(row)
    if not faults and row["messages"][-1]["role"] == "assistant":
        faults.append("messages: the last message must not be an assistant's: the agent writes that one")
    return faults


def _demonstration_faults(row: dict[str, Any]) -> list[str]:
    faults = _message_faults(row) + _tool_faults(row)
    if not faults and row["messages"][-1]["role"] != "assistant":
        faults.append("messages: a demonstration must end in an assistant's message")
    return faults


def _message_faults(row: dict[str, Any]) -> list[str]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return ["messages: expected a non-empty list of chat messages"]
    faults = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            faults.append(f"{where}: expected an object with 'role' and 'content'")
            continue
        role = message.get("role")
        if role not in ROLES:
            faults.append(f"{where}.role: expected one of {', '.join(ROLES)}, found {role!r}")
        calls = message.get("tool_calls")
        if calls is not None:
            faults += _call_faults(where, calls)
        if not isinstance(message.get("content"), str) and not (role == "assistant" and calls):
            faults.append(f"{where}.content: expected a string, found {type(message.get('content')).__name__}")
    return faults


def _call_faults(where: str, calls: Any) -> list[str]:
    if not isinstance(calls, list):
        return [f"{where}.tool_calls: expected a list"]
    faults = []
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            faults.append(f"{where}.tool_calls[{index}].function.name: expected a string")
        elif not isinstance(function.get("arguments"), str | dict):
            faults.append(f"{where}.tool_calls[{index}].function.arguments: expected a JSON string or an object")
    return faults


def _tool_faults(row: dict[str, Any]) -> list[str]:
    tools = row.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        return ["tools: expected a list of Chat Completions tool specs"]
    faults = []
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            faults.append(f"tools[{index}].function.name: expected a string")
    return faults
