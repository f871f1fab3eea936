"""Rows of evals: read, made into prompts, and into answers to be graded."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentrft.data import load_samples
from agentrft.graders.criteria import Criterion
from agentrft.server.evals import rows as eval_rows
from agentrft.server.evals.rows import RowsError, check_samples_are_there, given_answers, prompts, read_rows
from agentrft.spec import StringCheckGraderSpec
from agentrft.tools import call_judge

ANY: dict[str, Any] = {"type": "object"}
ROW = {"messages": [{"role": "user", "content": "Colour of appl\u00e9?"}], "word": "appl\u00e9"}


def lines(*rows: Any) -> list[bytes]:
    return [json.dumps(row).encode() + b"\n" for row in rows]


def test_a_row_has_the_id_that_it_has_in_a_data_file_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"\n".join([b"", *lines(ROW)]))
    (sample,) = load_samples(tmp_path / "rows")
    for given in (ROW, {"item": ROW}):
        (row,) = read_rows([b"\n", *lines(given)], ANY)
        assert (row.row_id, row.item, row.line) == (sample.sample_id, ROW, 2)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"[]", "line 1: expected a JSON object"),
        (b"{", "line 1: not valid JSON"),
        (b'{"item": {"a": 1, "a": 2}}', "the key is there twice"),
        (b'{"item": {}, "sample": 3}', "line 1: sample: expected an object"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b"", "there are no rows"),
    ],
)
def test_a_line_that_is_no_row_is_named(line: bytes, says: str) -> None:
    with pytest.raises(RowsError, match="rows") as error:
        read_rows([line], ANY)
    assert says in error.value.cause


def test_more_rows_than_are_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_rows, "MOST_ROWS", 2)
    with pytest.raises(RowsError, match="at most 2 rows"):
        read_rows(lines(ROW, ROW, ROW), ANY)


def test_prompts_are_rendered_or_taken_from_the_row() -> None:
    rows = read_rows(lines(ROW), ANY)
    reference = {"type": "item_reference", "item_reference": "item.messages"}
    template = {
        "type": "template",
        "template": [
            {"role": "system", "content": [{"type": "input_text", "text": "Be short."}, "Be right."]},
            {"role": "user", "content": "Colour of {{ item.word }}?"},
        ],
    }
    assert prompts(rows, reference, [], call_judge())[0].messages == ROW["messages"]
    told = prompts(rows, template, [], call_judge())[0].messages
    assert [one["content"] for one in told] == ["Be short.\nBe right.", "Colour of appl\u00e9?"]
    for wrong, says in (
        ({**reference, "item_reference": "item.none"}, "'item' has no key 'none'"),
        ({**reference, "item_reference": "sample.x"}, "is no reference to the row"),
        ({**reference, "item_reference": "item.word"}, "messages"),
        ({"type": "template", "template": [{"role": "assistant", "content": "x"}]}, "must not be an assistant's"),
    ):
        with pytest.raises(RowsError) as error:
            prompts(rows, wrong, [], call_judge())
        assert says in error.value.cause


def test_an_answer_is_read_from_its_text_or_its_first_choice() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
    message = {"role": "assistant", "content": "red", "tool_calls": [call]}
    given = [
        {"item": ROW, "sample": {"output_text": "red", "model": "m"}},
        {"item": ROW, "sample": {"choices": [{"message": message}]}},
    ]
    text, choice = given_answers(read_rows(lines(*given), ANY))
    assert text.output_text == choice.output_text == "red"
    assert choice.output_tools == [call] and text.as_template_value()["model"] == "m"
    assert [one["role"] for one in text.messages] == ["user", "assistant"]


def test_a_row_without_an_answer_is_named_where_a_grader_reads_one() -> None:
    check = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}
    answered = Criterion("answer", StringCheckGraderSpec.model_validate(check))
    item_only = Criterion("item", StringCheckGraderSpec.model_validate({**check, "input": "{{ item.word }}"}))
    rows = read_rows(lines({"item": ROW, "sample": {"output_text": "x"}}, {"item": ROW}), ANY)
    check_samples_are_there(rows, [item_only])
    with pytest.raises(RowsError, match="line 2: the graders read sample.output_text"):
        check_samples_are_there(rows, [item_only, answered])
    with pytest.raises(RowsError, match="line 1: sample: output_text: expected a string"):
        given_answers(read_rows(lines({"item": ROW, "sample": {"output_text": 3}}), ANY))
