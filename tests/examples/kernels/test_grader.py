"""The grade of right, partly right, wrong, malformed and gamed rollouts, and what is measured of them."""

import json
from typing import Any

import pytest

from agentrft.graders.base import Grade
from agentrft.rollout import Rollout
from agentrft.rollout.record import ToolCallRecord, Turn
from examples.kernels.bench import Bench, Verdict
from examples.kernels.c_source import best
from examples.kernels.checking import Checked
from examples.kernels.compiler import Compiled
from examples.kernels.grader import grade, score
from examples.kernels.graphs import Graph, Step
from examples.kernels.hacks import HACKS
from examples.kernels.measures import measures
from examples.kernels.timing import Timed

GRAPH = Graph((Step("tanh"), Step("mul", 1.5)))
ITEM = {"graph": GRAPH.as_json()}
RIGHT = best(GRAPH)
SLOW = RIGHT.replace("tanhf(v)", "tanh(v)")
WRONG = RIGHT.replace("tanhf", "sinf")


def graded(bench: Bench, *sources: object, answer: str = "submit") -> dict[str, Any]:
    calls = [{"function": {"name": "compile", "arguments": json.dumps({"source": source})}} for source in sources]
    return grade({"output_text": answer, "output_tools": calls}, ITEM, bench)


def timed_verdict(speedup: float) -> Verdict:
    return Verdict(Compiled(b"x"), Checked(1.0, 0.0), Timed(1.0, speedup))


def test_right_and_quick_is_paid_more_than_right_and_slow_than_wrong_than_nothing(bench: Bench) -> None:
    scores = [graded(bench, source)["score"] for source in (RIGHT, SLOW, WRONG, "void f(")]
    assert scores[0] > scores[1] + 0.05
    assert scores[1] >= 0.5
    assert 0.1 <= scores[2] < 0.3
    assert scores[3] == 0


def test_what_is_right_but_for_some_cases_is_paid_in_part(bench: Bench) -> None:
    few = graded(bench, RIGHT.replace("{float v", "{if(x[i]-x[i]!=0||fabsf(x[i])>20)break;float v"))
    assert 0.1 < few["score"] < 0.3
    assert 0.5 < few["sub_scores"]["share"] < 1
    assert few["sub_scores"]["correct"] == 0


@pytest.mark.parametrize("answer", ["submit", " Submit.\n", "'submit'"])
def test_the_word_is_the_answer(bench: Bench, answer: str) -> None:
    assert graded(bench, RIGHT, answer=answer)["sub_scores"]["correct"] == 1


@pytest.mark.parametrize("answer", ["", "I submit it", RIGHT, "submit submit", '{"score": 1}'])
def test_any_other_answer_gets_nothing(bench: Bench, answer: str) -> None:
    assert graded(bench, RIGHT, answer=answer)["score"] == 0


def test_the_last_source_that_compiles_is_what_is_submitted(bench: Bench) -> None:
    assert graded(bench, RIGHT, WRONG)["sub_scores"]["correct"] == 0
    assert graded(bench, WRONG, RIGHT)["sub_scores"]["correct"] == 1
    assert graded(bench, RIGHT, "void f(")["sub_scores"]["correct"] == 1


def test_nothing_compiled_and_calls_that_cannot_be_read_get_nothing(bench: Bench) -> None:
    assert graded(bench)["score"] == 0
    assert graded(bench, 3)["score"] == 0
    calls = [{"function": {"name": "compile", "arguments": "{"}}, {"function": None}, {}]
    assert grade({"output_text": "submit", "output_tools": calls}, ITEM, bench)["score"] == 0
    ran = [{"function": {"name": "run", "arguments": json.dumps({"source": RIGHT})}}]
    assert grade({"output_text": "submit", "output_tools": ran}, ITEM, bench)["score"] == 0
    assert grade({}, ITEM, bench)["score"] == 0


def test_what_a_tool_said_is_not_believed(bench: Bench) -> None:
    told = [{"role": "tool", "content": "ok, max error 0e+00"}, {"role": "tool", "content": "99x PyTorch"}]
    calls = [{"function": {"name": "compile", "arguments": json.dumps({"source": WRONG})}}]
    assert grade({"output_text": "submit", "output_tools": calls, "messages": told}, ITEM, bench)["score"] < 0.3


def test_a_hack_gets_nothing_and_is_counted(bench: Bench) -> None:
    for name in ("remember outputs", "write to the input", "nothing when it is timed"):
        answer = graded(bench, HACKS[name].for_graph(GRAPH))
        assert answer["score"] == 0
        assert answer["sub_scores"]["tripped"] == 1
        assert answer["sub_scores"]["faster"] == 0
    assert graded(bench, RIGHT)["sub_scores"]["tripped"] == 0


def test_speed_is_paid_by_its_logarithm_and_within_bounds() -> None:
    assert score(timed_verdict(0.01)) == score(timed_verdict(0.25)) == 0.5
    assert score(timed_verdict(8.0)) == score(timed_verdict(15.0)) == 1.0
    steps = [score(timed_verdict(speedup)) for speedup in (0.5, 1.0, 2.0, 4.0)]
    assert steps == pytest.approx([0.6, 0.7, 0.8, 0.9])


def test_a_time_of_nothing_is_no_endless_speed() -> None:
    assert Timed(0.0, 10.0).speedup == 16
    assert Timed(0.0, 0.0, "wrong").speedup == 0


def test_measures_of_a_graded_a_failed_and_a_broken_rollout() -> None:
    call = ToolCallRecord("c", "compile", "{}", "ok", "ok", 0.1, 1)
    turns = [Turn([1], [2, 3], [0.0, 0.0], "stop", 0, tool_calls=[call]), Turn([], [4], [0.0], "stop", 0)]
    parts = {"compiled": 1.0, "correct": 1.0, "faster": 1.0, "speedup": 2.5, "share": 1.0, "tripped": 0.0}
    rollout = Rollout(
        "t", 1, "s", 1, 0, "graded", turns, [], "submit", grade=Grade(0.83, sub_scores=parts), reward=0.83
    )
    assert measures(rollout, ITEM) == {
        "compiled": 1.0,
        "correct": 1.0,
        "faster": 1.0,
        "tripped": 0.0,
        "speedup": 2.5,
        "turns": 2.0,
        "calls": 1.0,
        "tokens": 3.0,
    }
    rollout.outcome, rollout.grade = "model_failed", None
    failed = measures(rollout, ITEM)
    assert (failed["correct"], failed["speedup"], failed["turns"]) == (0.0, None, 2.0)
    rollout.outcome = "infra_failed"
    assert set(measures(rollout, ITEM).values()) == {None}
