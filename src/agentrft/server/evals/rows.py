"""The rows of a run: read and looked at as a whole before the first is answered or graded."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrft import wire
from agentrft.data import Judge, Sample, TemplateError, render_template, template_fields
from agentrft.data.messages import read_messages
from agentrft.data.samples import Faults, tool_faults
from agentrft.errors import UserError
from agentrft.graders import GraderSample, OutputToolsError, given_sample, read_output_tools
from agentrft.graders.criteria import Criterion
from agentrft.graders.registry import templates_of
from agentrft.spec.json_schema import read_schema
from agentrft.wire import WireError, is_list, is_object

MOST_ROWS = 50_000
MOST_BYTES = 256 * 1024 * 1024


class RowsError(UserError):
    """Rows that cannot be answered or graded, each with its line."""


@dataclass(frozen=True)
class EvalRow:
    """One row.

    Attributes:
        row_id: as `Sample.sample_id`: a row has the same one in a data file of a job, if that was written by
            `json.dumps`, and so its rollouts have the same random numbers.
        sample: the answer that came with it; None where there is none.
    """

    line: int
    row_id: str
    item: dict[str, Any]
    sample: dict[str, Any] | None


@dataclass(frozen=True)
class GivenSample(GraderSample):
    """An answer that came with its row; `given` is what that has of it, and goes before what is made of it."""

    given: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_template_value(self) -> dict[str, Any]:
        own = {"output_text": self.output_text, "output_tools": self.output_tools}
        return {**super().as_template_value(), **self.given, **own}


def read_rows(lines: Iterable[bytes], item_schema: Mapping[str, Any]) -> list[EvalRow]:
    """Lines of JSON: `{"item": {...}, "sample": {...}}`; a line without `item` is an item as it is, as data files of
    jobs have them.

    Raises:
        RowsError: some of them are faulty, or there are none, or too many.
    """
    rows: list[EvalRow] = []
    schema, faults, size = read_schema(item_schema), Faults(), 0
    for number, line in enumerate(lines, start=1):
        size += len(line)
        if len(rows) >= MOST_ROWS or size > MOST_BYTES:
            most = f"at most {MOST_ROWS} rows and {MOST_BYTES // 2**20} MB are taken."
            raise RowsError(f"too much data: {most}", "Split it into several runs.")
        if not line.strip():
            continue
        try:
            row = _read_row(number, line)
        except (WireError, ValueError) as error:
            faults.add(f"line {number}: {error}")
            continue
        fault = schema.fault(row.item)
        if fault is not None:
            faults.add(f"line {number}: item: {fault}")
        rows.append(row)
    _raise_if_any(faults)
    if not rows:
        raise RowsError("there are no rows.", 'Give lines such as {"item": {...}}.')
    return rows


def file_lines(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        yield from file


def check_samples_are_there(rows: Sequence[EvalRow], criteria: Sequence[Criterion]) -> None:
    """Raises RowsError where a grader reads of an answer and a row has none."""
    reads = [
        reference
        for criterion in criteria
        for _, template in templates_of(criterion.spec)
        for reference in template_fields(template)
        if reference.startswith("sample")
    ]
    faults = Faults()
    for row in rows:
        if reads and row.sample is None:
            faults.add(f"line {row.line}: the graders read {reads[0]}, and there is no `sample` beside `item`")
    _raise_if_any(faults)


def given_answers(rows: Sequence[EvalRow]) -> list[GraderSample]:
    """The answers of rows that have them.

    Raises:
        RowsError: some are none.
    """
    found: list[GraderSample] = []
    faults = Faults()
    for row in rows:
        try:
            found.append(_given_answer(row))
        except (OutputToolsError, ValueError) as error:
            faults.add(f"line {row.line}: sample: {error}")
    _raise_if_any(faults)
    return found


def prompts(
    rows: Sequence[EvalRow], input_messages: Mapping[str, Any], tools: list[dict[str, Any]], judge: Judge
) -> list[Sample]:
    """The rows as what a model is asked.

    Args:
        input_messages: a `template` or an `item_reference`, as in the request.
        tools: for all rows; none are the rows' own.
        judge: what else is wrong with a row's tools and calls.

    Raises:
        RowsError: some have no messages of that kind.
    """
    samples: list[Sample] = []
    faults = Faults()
    for row in rows:
        offered = tools or row.item.get("tools") or []
        try:
            messages, wrong = read_messages(_messages(row.item, input_messages))
        except TemplateError as error:
            faults.add(f"line {row.line}: input_messages: {error.cause}")
            continue
        wrong = [*wrong, *tool_faults({"tools": offered})]
        if not wrong and messages[-1]["role"] == "assistant":
            wrong = ["the last message must not be an assistant's: the model writes that one"]
        sample = Sample(row.row_id, messages, offered, row.item)
        for fault in wrong or judge(sample):
            faults.add(f"line {row.line}: input_messages: {fault}")
        samples.append(sample)
    _raise_if_any(faults)
    return samples


def _read_row(number: int, line: bytes) -> EvalRow:
    value = wire.parse(line, unique_keys=True)
    if not is_object(value):
        raise ValueError("expected a JSON object")
    item, sample = value.get("item"), value.get("sample")
    if not (is_object(item) and value.keys() <= {"item", "sample"}):
        return EvalRow(number, _row_id(number, line.strip()), value, None)
    if sample is not None and not is_object(sample):
        raise ValueError("sample: expected an object")
    return EvalRow(number, _row_id(number, json.dumps(item).encode()), item, sample)


def _row_id(number: int, text: bytes) -> str:
    return f"{number:05d}-{hashlib.sha256(text).hexdigest()[:8]}"


def _given_answer(row: EvalRow) -> GraderSample:
    if row.sample is None:
        return given_sample("")
    choices = row.sample.get("choices")
    first = choices[0] if is_list(choices) and choices else None
    message = first.get("message") if is_object(first) else None
    message = message if is_object(message) else {}
    text = row.sample.get("output_text", message.get("content"))
    if not isinstance(text, str | None):
        raise ValueError("output_text: expected a string")
    calls = read_output_tools(row.sample.get("output_tools", message.get("tool_calls")))
    made = given_sample(text or "", calls, _prompt(row.item))
    given = {key: value for key, value in row.sample.items() if value is not None}
    return GivenSample(made.output_text, made.output_tools, made.messages, made.trace, given=given)


def _prompt(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's own messages, where it has some."""
    messages, faults = read_messages(item["messages"]) if is_list(item.get("messages")) else ([], [])
    return [] if faults else messages


def _messages(item: dict[str, Any], given: Mapping[str, Any]) -> Any:
    if given["type"] == "item_reference":
        return _referred(item, given["item_reference"])
    return [
        {"role": one["role"], "content": render_template(_text(one["content"]), item=item, sample=None)}
        for one in given["template"]
    ]


def _referred(item: dict[str, Any], reference: str) -> Any:
    """The list that a reference such as `item.messages` leads to."""
    fields = template_fields("{{ " + reference.strip() + " }}")
    if len(fields) != 1 or not fields[0].startswith("item"):
        raise TemplateError(f"'{reference}' is no reference to the row.", "Write `item.messages`.")
    text = render_template("{{ " + reference.strip() + " }}", item=item, sample=None)
    try:
        return wire.parse(text)
    except WireError:
        return text


def _text(content: Any) -> str:
    parts = content if is_list(content) else [content]
    return "\n".join(part if isinstance(part, str) else part["text"] for part in parts)


def _raise_if_any(faults: Faults) -> None:
    if faults.count:
        raise RowsError(f"the rows have {faults}", "Correct these lines; nothing was graded.")
