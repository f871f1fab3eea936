"""JSONL to samples. All faults of a file are reported at once, before anything else is loaded."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agentrft import wire
from agentrft.data.messages import demonstration_faults, read_messages
from agentrft.errors import UserError
from agentrft.wire import WireError, is_list, is_object

T = TypeVar("T")
MAX_FAULTS_SHOWN = 20
CHAT_KEYS = ("messages", "tools", "parallel_tool_calls")
FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Sample:
    """One dataset row.

    Attributes:
        sample_id: stable across runs: the row's number and a digest of its content.
        messages: Chat Completions messages, in the one shape of `data/messages.py`: the prompt of every rollout of
            this sample, or a whole demonstration.
        tools: the row's own Chat Completions tool specs; empty means the job's tools.
        item: the whole row as its file has it, `messages` and `tools` included: what templates call `item.*`, and what
            graders, tools and hooks get.
    """

    sample_id: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    item: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def line(self) -> int:
        """Of its file, from 1."""
        return int(self.sample_id.partition("-")[0])

    @property
    def own_keys(self) -> dict[str, Any]:
        """Of the row, what Chat Completions does not define: answers, labels, and what else graders compare with."""
        return {key: value for key, value in self.item.items() if key not in CHAT_KEYS}


# What else is wrong with a sample, each fault with its field: for what `data` cannot know, such as a job's tools.
Judge = Callable[[Sample], list[str]]


class DataError(UserError):
    """Rows of a data file are faulty.

    Args:
        n_faults: in all, those that are not shown included.
    """

    def __init__(self, cause: str, remedy: str, n_faults: int) -> None:
        super().__init__(cause, remedy)
        self.n_faults = n_faults


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


def load_samples(path: Path, judge: Judge | None = None) -> list[Sample]:
    """Read a training or validation file.

    Args:
        judge: what else is wrong with a row; see `tools/row_calls.py`.

    Raises:
        UserError: the file is missing or empty, or rows are faulty: each with line, field and expectation.
    """
    return list(each_sample(path, judge))


def find_sample(path: Path, sample_id: str) -> Sample | None:
    """A row of a file by its sample's id; None where it is not there, or rows cannot be read."""
    try:
        return next((sample for sample in each_sample(path) if sample.sample_id == sample_id), None)
    except UserError:
        return None


def load_demonstrations(path: Path, judge: Judge | None = None) -> list[Sample]:
    """Read a warm-start file: whole conversations, each ending in an assistant's message.

    Raises:
        UserError: as `load_samples`.
    """
    return list(each_demonstration(path, judge))


def each_sample(path: Path, judge: Judge | None = None) -> Iterator[Sample]:
    """As `load_samples`, one at a time, for files of any size; faults are raised after the last good row."""
    return each_row(path, partial(_read_sample, faults_of=_prompt_faults, judge=judge))


def each_demonstration(path: Path, judge: Judge | None = None) -> Iterator[Sample]:
    """As `load_demonstrations`, one at a time; faults are raised after the last good row."""
    return each_row(path, partial(_read_sample, faults_of=demonstration_faults, judge=judge))


def judge_samples(path: Path, samples: Iterable[Sample], judge: Judge) -> None:
    """Look at samples that were read already.

    Raises:
        DataError: the judge finds faults.
    """
    faults = Faults()
    for sample in samples:
        for fault in judge(sample):
            faults.add(f"line {sample.line}: {fault}")
    _raise_if_any(path, faults)


def each_row(path: Path, read: Callable[[str, dict[str, Any]], tuple[T | None, list[str]]]) -> Iterator[T]:
    """What is read of a JSONL file's rows, one at a time; faults are raised after the last good row.

    Args:
        read: of a row's id and its fields, what it is, or what is wrong with it.

    Raises:
        UserError: as `load_samples`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such data file.", "Correct the path in the job; it is relative to the job's file.")
    faults, is_empty = Faults(), True
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        is_empty = False
        try:
            row = wire.parse(line, unique_keys=True)
        except WireError as error:
            faults.add(f"line {number}: {error}")
            continue
        digest = hashlib.sha256(line.strip()).hexdigest()[:8]
        found, row_faults = (
            read(f"{number:05d}-{digest}", row) if is_object(row) else (None, ["expected a JSON object"])
        )
        for fault in row_faults:
            faults.add(f"line {number}: {fault}")
        if found is not None:
            yield found
    _raise_if_any(path, faults)
    if is_empty:
        raise UserError(
            f"{path}: the file has no rows.", 'Add JSON lines such as {"messages": [...], "answer": "..."}.'
        )


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for text in file:
            # A lone carriage return ends a line, too.
            yield from text.splitlines()


def _read_sample(
    sample_id: str,
    row: dict[str, Any],
    *,
    faults_of: Callable[[list[dict[str, Any]]], list[str]],
    judge: Judge | None,
) -> tuple[Sample | None, list[str]]:
    messages, faults = read_messages(row.get("messages"))
    faults += tool_faults(row)
    if faults:
        return None, faults
    sample = Sample(sample_id, messages, row.get("tools") or [], row)
    faults = faults_of(messages) + (judge(sample) if judge is not None else [])
    return (None if faults else sample), faults


def _raise_if_any(path: Path, faults: Faults) -> None:
    if faults.count:
        raise DataError(f"{path}: {faults}", "Correct these lines; nothing was started.", faults.count)


def _prompt_faults(messages: list[dict[str, Any]]) -> list[str]:
    if messages[-1]["role"] == "assistant":
        return ["messages: the last message must not be an assistant's: the agent writes that one"]
    return []


def tool_faults(row: dict[str, Any]) -> list[str]:
    """What is wrong with a row's `tools`, each fault with its field."""
    tools = row.get("tools")
    if tools is None:
        return []
    if not is_list(tools):
        return ["tools: expected a list of Chat Completions tool specs"]
    faults: list[str] = []
    names: set[str] = set()
    for index, tool in enumerate(tools):
        function = tool.get("function") if is_object(tool) else None
        if is_object(tool) and tool.get("type") not in (None, "function"):
            faults.append(f"tools[{index}].type: expected 'function'")
            continue
        if not is_object(function) or not isinstance(function.get("name"), str):
            faults.append(f"tools[{index}].function.name: expected a string")
            continue
        if not FUNCTION_NAME.fullmatch(function["name"]):
            faults.append(f"tools[{index}].function.name: expected up to 64 letters, digits, '_', '.' and '-'")
        elif function["name"] in names:
            faults.append(f"tools[{index}].function.name: '{function['name']}' is there twice")
        if not isinstance(function.get("description"), str | None):
            faults.append(f"tools[{index}].function.description: expected a string")
        names.add(function["name"])
        if not isinstance(function.get("parameters"), dict | None):
            faults.append(f"tools[{index}].function.parameters: expected a JSON Schema of an object")
    return faults
