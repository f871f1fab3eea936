"""The score: F1 with credit for close codes, less a share for turns and waiting; and what does not pay."""

from typing import Any

import pytest

from examples.medical_notes import exact_f1
from examples.medical_notes.grader import PRICE_PER_CODE_TOO_MANY, PRICE_PER_TURN, grade

ONE_TOO_MANY = 1 - PRICE_PER_CODE_TOO_MANY
RIGHT = ["K25.4", "J20.9", "K42.9"]


def sample(text: str, turns: int = 2, calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"output_text": text, "trace": {"turns": turns, "calls": calls or []}}


def score(text: str, turns: int = 2, calls: list[dict[str, Any]] | None = None) -> float:
    return grade(sample(text, turns, calls), {"answer": RIGHT})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K25.4\nJ20.9\nK42.9", 1.0),
        (" k42.9 \n\nj20.9\nK25.4\n", 1.0),
        ("K25.4\nK25.4\nJ20.9\nK42.9", 1.0),
        ("K25.4\nJ20.9", 2 * 2 / 5),
        ("K25.4\nJ20.9\nK42.0", 2 * 2.25 / 6),
        ("K25.4\nJ20.9\nK42.9\nL40.0", ONE_TOO_MANY * 2 * 3 / 7),
        ("K25.0\nJ20.0\nK42.0", 0.25),
        ("L40.0", 0.0),
    ],
)
def test_right_and_partly_right_answers_get_their_f1(text: str, expected: float) -> None:
    assert score(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", " \n ", "I cannot code this note.", "K25", "K25.4, J20.9, K42.9", "[]", "{}"])
def test_an_answer_in_another_form_gets_next_to_nothing(text: str) -> None:
    assert score(text) <= 2 * 0.25 / 4


def test_a_line_that_is_no_code_counts_as_a_wrong_code() -> None:
    assert score("The codes are:\nK25.4\nJ20.9\nK42.9") == pytest.approx(ONE_TOO_MANY * 2 * 3 / 7)


def test_a_category_earns_its_credit_once_for_each_code_of_the_note() -> None:
    assert score("K25.0\nK25.1\nK25.2") == pytest.approx(2 * 0.25 / 6)
    assert score("K25.4\nK25.1") == pytest.approx(2 * 1 / 5), "and not beside the code itself"


def test_naming_all_hits_or_all_codes_does_not_pay() -> None:
    others = [f"L{number}.0" for number in range(10, 19)]
    assert score("\n".join([*others, *RIGHT])) == 0.0
    # Three hits of a search for each of three: the F1 is 0.5, and one in two right is worth more.
    assert score("\n".join([*others[:6], *RIGHT])) < score("\n".join([RIGHT[0], *others[:2]]))
    many = [f"L{number}.{digit}" for number in range(10, 99) for digit in range(10)]
    assert score("\n".join([*many, *RIGHT])) == 0.0
    assert score("\n".join([*RIGHT, *many])) < 0.01


def test_each_turn_beyond_two_costs_its_price_and_calls_side_by_side_nothing() -> None:
    answer = "\n".join(RIGHT)
    beside = [{"turn": 0, "latency_s": 0.1} for _ in range(9)]
    assert score(answer, 2, beside) == 1.0
    assert score(answer, 1) == 1.0
    assert score(answer, 4) == pytest.approx(1 - 2 * PRICE_PER_TURN)
    assert score("K25.4\nJ20.9", 4) == pytest.approx((1 - 2 * PRICE_PER_TURN) * 2 * 2 / 5)
    assert score(answer, 400) == 0.0


def test_waiting_for_tools_costs_by_the_slowest_call_of_each_turn_and_never_much() -> None:
    answer = "\n".join(RIGHT)
    slow = [{"turn": turn, "latency_s": seconds} for turn in (0, 1) for seconds in (1.5, 0.5)]
    assert score(answer, 2, slow) == pytest.approx(1 - 0.02 * 1.0)
    assert score(answer, 2, [{"turn": 0, "latency_s": 600.0}]) == pytest.approx(0.9)


def test_being_quick_earns_nothing_where_the_answer_is_worth_nothing() -> None:
    assert score("L40.0", turns=1) == score("L40.0", turns=8) == 0.0


def test_the_holdout_sees_exact_codes_alone() -> None:
    assert exact_f1.grade(sample("K25.4\nJ20.0", turns=9), {"answer": RIGHT}) == pytest.approx(2 * 1 / 5)
    assert exact_f1.grade(sample(""), {"answer": RIGHT}) == 0.0
