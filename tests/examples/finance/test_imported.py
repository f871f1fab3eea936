"""Real questions in this example's form: rows in TAT-QA's and FinQA's own shapes, made by hand for these tests."""

import json
from pathlib import Path
from typing import Any

import pytest

from examples.common.tool_server import Call
from examples.finance import grader
from examples.finance.corpus import load_corpus
from examples.finance.demonstrations import search_query
from examples.finance.finqa import expression_of, load_finqa
from examples.finance.imported import write_split
from examples.finance.policies import oracle, roll_out
from examples.finance.questions import Question
from examples.finance.tatqa import load_tatqa
from examples.finance.tools import CORPUS, make_tools
from examples.finance.transcripts import sample_of

TABLE = [
    ["", "2019", "2018"],
    ["Sales", "$  1,452.4", "$1,146.2"],
    ["Net loss", "(9,819)", "6,639"],
    ["Margin", "36%", ""],
]


def tatqa_question(text: str, answer: Any, kind: str, scale: str = "", derivation: str = "") -> dict[str, Any]:
    return {"question": text, "answer": answer, "answer_type": kind, "scale": scale, "derivation": derivation}


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def tatqa(tmp_path: Path) -> Path:
    questions = [
        tatqa_question("What were sales in 2019?", ["$1,452.4"], "span", "million"),
        tatqa_question("What was the margin?", ["36%"], "span"),
        tatqa_question("What was the loss in text?", ["$(9.8) million"], "span"),
        tatqa_question("What was the change in sales?", 306.2, "arithmetic", "million", "1,452.4-1,146.2"),
        tatqa_question("By how much in percent?", 26.71, "arithmetic", "percent", "(1,452.4-1,146.2)/1,146.2"),
        tatqa_question("What was the mean?", 1299.3, "arithmetic", "million", "[1,452.4 + 1,146.2] \u00f7 2"),
        tatqa_question("What is made up?", 7.0, "arithmetic", "million", "1,000.5 - 993.5"),
        tatqa_question("What does not add up?", 9.0, "arithmetic", "million", "1,452.4-1,146.2"),
        tatqa_question("Which rows?", ["Sales", "Net loss"], "multi-span"),
        tatqa_question("How many?", "2", "count", "", "Sales##Net loss"),
        tatqa_question("In which year?", ["2019"], "span"),
        tatqa_question("Why?", ["because of prices"], "span"),
    ]
    paragraphs = [
        {"order": 2, "text": "The loss was $(9.8) million."},
        {"order": 1, "text": "Sales rose, in millions."},
    ]
    contexts = [{"table": {"table": TABLE}, "paragraphs": paragraphs, "questions": questions} for _ in range(10)]
    return written(tmp_path / "tatqa.json", contexts)


def test_tatqa_s_questions_with_numbers_are_taken_and_the_others_left(tatqa: Path) -> None:
    filings, questions = load_tatqa(tatqa)
    assert len(filings) == 10 and len({one.code for one in filings}) == 10
    first = {one.topic: one for one in questions if one.code == filings[0].code}
    assert [(one.answer, one.unit) for one in first.values()] == [
        (1452.4, "million"),
        (36.0, "percent"),
        (-9.8, "million"),
        (pytest.approx(306.2), "million"),
        (pytest.approx(26.714, abs=1e-3), "percent"),
        (pytest.approx(1299.3), "million"),
    ]
    assert first["What was the loss in text?"].sources == (f"{filings[0].code}-P2",)
    assert first["What was the mean?"].evidence == ("1,452.4", "1,146.2")


def test_the_oracle_gets_all_of_them_through_the_tools(tatqa: Path) -> None:
    filings, questions = load_tatqa(tatqa)
    rollouts = roll_out(oracle, questions, make_tools(filings))
    assert [
        grader.grade(sample_of(one), question.row()) for one, question in zip(rollouts, questions, strict=True)
    ] == [1.0] * len(questions)


def test_a_search_finds_a_passage_by_its_words_and_shows_none_of_its_figures(tatqa: Path) -> None:
    filings, _ = load_tatqa(tatqa)
    hits = str(make_tools(filings)["search"](Call({"query": f"{filings[3].company} loss was million"})))
    assert f"{filings[3].code}-P2 Passage: The loss was" in hits
    assert "9.8" not in hits


def test_a_split_is_by_filing_and_a_test_only_one_is_whole(tatqa: Path, tmp_path: Path) -> None:
    filings, questions = load_tatqa(tatqa)
    sizes = write_split(tmp_path / "split", filings, questions, seed=0)
    assert sum(sizes.values()) == len(questions) and min(sizes.values()) > 0
    codes = [{json.loads(line)["code"] for line in (tmp_path / "split" / f"{name}.jsonl").open()} for name in sizes]
    assert sum(map(len, codes)) == len(set().union(*codes)) == 10
    assert len(load_corpus(tmp_path / "split" / CORPUS)) == 10
    assert write_split(tmp_path / "all", filings, questions, seed=0, test_only=True)["test"] == len(questions)


def finqa_row(program: str, answer: Any) -> dict[str, Any]:
    return {
        "pre_text": ["the following is a discussion .", "."],
        "post_text": ["interest expense rose by 3.8 million in 2009 ."],
        "table": [["", "2009", "2008"], ["net sales", "$ 5829", "$ 5735"], ["cost", "100.5", "95.5"]],
        "qa": {"question": f"what is {program}?", "program": program, "exe_ans": answer},
    }


def test_finqa_s_programs_become_questions(tmp_path: Path) -> None:
    rows = [
        finqa_row("subtract(5829, 5735), divide(#0, 5735)", 0.01639),
        finqa_row("divide(100, 100.5)", 0.99502),
        finqa_row("add(5829, 5735), divide(#0, const_2)", 5782.0),
        finqa_row("multiply(3.8, const_1000)", 3800.0),
        finqa_row("table_average(net sales, none)", 5782.0),
        finqa_row("greater(5829, 5735)", "yes"),
        finqa_row("subtract(7777, 5735)", 2042.0),
    ]
    filings, questions = load_finqa(written(tmp_path / "finqa.json", rows))
    assert len(filings) == 1, "the rows are of one page"
    assert [question.answer for question in questions] == [
        pytest.approx(0.01639, abs=1e-5),
        pytest.approx(0.99502, abs=1e-5),
        5782.0,
        3800.0,
    ]
    assert all(question.unit is None for question in questions)
    assert questions[3].reads == (f"{filings[0].code}-P2",)
    rollouts = roll_out(oracle, questions, make_tools(filings))
    for rollout, question in zip(rollouts, questions, strict=True):
        assert grader.grade(sample_of(rollout), question.row()) == 1.0


@pytest.mark.parametrize(
    ("program", "expression"),
    [
        ("subtract(5829, 5735)", "(5829 - 5735)"),
        ("add(1, 2), multiply(#0, const_m1)", "((1 + 2) * (0 - 1))"),
        ("divide(9.6%, 2)", "((9.6 / 100) / 2)"),
        ("exp(1.1, 3)", "(1.1 ** 3)"),
        ("add(1, #0)", None),
        ("table_max(sales, none)", None),
        ("greater(1, 2)", None),
        ("add(1, 2) and more", None),
        ("", None),
    ],
)
def test_programs_are_arithmetic_or_nothing(program: str, expression: str | None) -> None:
    assert expression_of(program) == expression


def test_a_question_is_searched_for_by_its_filing(tatqa: Path) -> None:
    _, questions = load_tatqa(tatqa)
    one: Question = questions[0]
    assert one.code in search_query(one) and one.code in one.text
