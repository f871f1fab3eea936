"""JSONL to preferences: rows with a prompt, an answer to it that is better, and one that is worse.

The format is OpenAI's: `input` with `messages` and `tools`, `preferred_output`, `non_preferred_output`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agentrft import wire
from agentrft.data.messages import empty_turns, is_trained_on, read_messages
from agentrft.data.samples import Judge, Sample, each_row, tool_faults
from agentrft.wire import WireError, is_object

MESSAGE = re.compile(r"\bmessages\[(\d+)\]")
PREFERRED, OTHER = "preferred_output", "non_preferred_output"


@dataclass(frozen=True)
class Preference:
    """One row: two demonstrations of one prompt, in which nothing is learned of the prompt's own messages."""

    sample_id: str
    preferred: Sample
    other: Sample


def each_preference(path: Path, judge: Judge | None = None) -> Iterator[Preference]:
    """One row at a time.

    Args:
        judge: what else is wrong with a conversation; see `tools/row_calls.py`.

    Raises:
        UserError: the file is missing or empty, or, after the last good row, rows are faulty: each with line, field and
            expectation.
    """
    return each_row(path, partial(_read, judge=judge))


def has_preferences(path: Path) -> bool:
    """Whether a file's first row looks like one."""
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        row = wire.parse(first)
    except WireError:
        return False
    return is_object(row) and "messages" not in row and bool({"input", PREFERRED, OTHER} & row.keys())


def _read(sample_id: str, row: dict[str, Any], *, judge: Judge | None) -> tuple[Preference | None, list[str]]:
    given = row.get("input")
    if not is_object(given):
        return None, ["input: expected an object with 'messages'"]
    messages, faults = read_messages(given.get("messages"), "input.messages")
    faults += [f"input.{fault}" for fault in tool_faults(given)]
    answers: list[list[dict[str, Any]]] = []
    for field in (PREFERRED, OTHER):
        answer, wrong = read_messages(row.get(field), field)
        faults += wrong or _answer_faults(answer, field)
        answers.append(answer)
    if not faults and messages[-1]["role"] == "assistant":
        faults = ["input.messages: the last message must not be an assistant's: the answers are what follows"]
    if not faults and answers[0] == answers[1]:
        faults = [f"{PREFERRED}: the same as {OTHER}; there is nothing to prefer"]
    if faults:
        return None, faults
    context = [{**one, "weight": 0} if one["role"] == "assistant" else one for one in messages]
    tools: list[dict[str, Any]] = given.get("tools") or []
    preferred, other = (Sample(sample_id, [*context, *answer], tools, row) for answer in answers)
    if judge is not None:
        for sample, field in ((preferred, PREFERRED), (other, OTHER)):
            faults += [_placed(fault, len(context), field) for fault in judge(sample)]
        # What is wrong with the prompt, or with its tools, both have.
        faults = list(dict.fromkeys(faults))
    return (None if faults else Preference(sample_id, preferred, other)), faults


def _placed(fault: str, n_context: int, field: str) -> str:
    """A fault of a conversation, with the row's own name of its place."""

    def name(found: re.Match[str]) -> str:
        index = int(found[1])
        return f"input.messages[{index}]" if index < n_context else f"{field}[{index - n_context}]"

    return f"input.{fault}" if fault.startswith("tools") else MESSAGE.sub(name, fault)


def _answer_faults(answer: Sequence[dict[str, Any]], field: str) -> list[str]:
    if answer[0]["role"] != "assistant":
        return [f"{field}[0].role: expected 'assistant': an answer begins with what the agent writes"]
    if answer[-1]["role"] != "assistant":
        return [f"{field}: an answer must end in an assistant's message"]
    if not any(is_trained_on(message) for message in answer):
        return [f"{field}: every assistant's message has weight 0, so there is nothing to train on"]
    return empty_turns(answer, field)
