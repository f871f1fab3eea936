"""Between which bounds a grader's scores lie, as far as its spec says."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agentrft.graders import score_range
from agentrft.graders.formula import Formula
from agentrft.spec import GraderSpec

CHECK = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}
SCORE = {"type": "score_model", "model": "j", "base_url": "http://127.0.0.1:1/v1"}
SCORE |= {"input": [{"role": "user", "content": "{{ sample.output_text }}"}]}
PYTHON = {"type": "python", "source": "def grade(sample, item): return 0.0"}


def bounds(spec: dict[str, Any]) -> tuple[float, float] | None:
    return score_range(TypeAdapter(GraderSpec).validate_python(spec))


def of_formula(formula: str, **graders: Any) -> tuple[float, float] | None:
    return bounds({"type": "multi", "graders": graders, "calculate_output": formula})


def test_the_range_of_a_single_grader_is_what_its_spec_says() -> None:
    assert bounds(CHECK) == (0, 1)
    assert bounds({**SCORE, "range": [-3, 2]}) == (-3, 2)
    assert bounds({"type": "trace", "measure": "turns", "best": 1, "worst": 4}) == (0, 1)
    assert bounds(PYTHON) is None
    assert bounds({"type": "endpoint", "url": "http://127.0.0.1:1/"}) is None


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("0.8 * a + 0.2 * b", (-0.4, 1.4)),
        ("a - 0.1 * b", (-0.3, 1.2)),
        ("-a", (-1, 0)),
        ("b ^ 2", (0, 9)),
        ("b ^ 3", (-8, 27)),
        ("abs(b)", (0, 3)),
        ("max(a, b)", (0, 3)),
        ("min(a, b, 0.5)", (-2, 0.5)),
        ("floor(b / 4)", (-1, 0)),
        ("sqrt(a) + exp(a) - exp(a)", None),
        ("b / a", None),
        ("log(a)", None),
        ("a + p", None),
        ("a", (0, 1)),
        ("1e39 * b", (-1e9, 1e9)),
    ],
)
def test_the_range_of_a_formula_follows_from_its_parts(formula: str, expected: tuple[float, float] | None) -> None:
    found = of_formula(formula, a=CHECK, b={**SCORE, "range": [-2, 3]}, p=PYTHON)
    if formula.startswith("sqrt"):
        assert found is not None and found[0] <= 0 and found[1] >= 1
    elif expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected)


FORMULAS = st.recursive(
    st.sampled_from(["a", "b", "2", "0.5", "-1"]),
    lambda part: st.one_of(
        st.tuples(part, st.sampled_from("+-*/"), part).map(lambda one: f"({one[0]} {one[1]} {one[2]})"),
        st.tuples(part, st.sampled_from(["2", "3", "0", "0.5"])).map(lambda one: f"({one[0]}) ^ {one[1]}"),
        st.tuples(st.sampled_from(["abs", "floor", "ceil", "sqrt", "exp", "log"]), part).map("{0[0]}({0[1]})".format),
        st.tuples(st.sampled_from(["min", "max"]), part, part).map("{0[0]}({0[1]}, {0[2]})".format),
    ),
    max_leaves=5,
)


@given(FORMULAS)
def test_no_score_lies_outside(text: str) -> None:
    found = of_formula(text, a=CHECK, b={**SCORE, "range": [-2, 3]})
    if found is None:
        return
    formula = Formula(text, ["a", "b"])
    for a, b in itertools.product((0.0, 0.3, 0.5, 1.0), (-2.0, -1.0, -0.2, 0.0, 0.7, 2.0, 3.0)):
        try:
            value = formula.evaluate({"a": a, "b": b})
        except ArithmeticError:
            continue
        slack = 1e-9 * max(1.0, abs(value))
        assert found[0] - slack <= value <= found[1] + slack


def test_a_range_further_from_zero_than_any_score_is_refused() -> None:
    assert bounds({**SCORE, "range": [-1e9, 1e9]}) == (-1e9, 1e9)
    for found in ([0, 1.1e9], [-1e39, 0]):
        with pytest.raises(ValueError, match="must lie between -1000000000 and 1000000000"):
            bounds({**SCORE, "range": found})
