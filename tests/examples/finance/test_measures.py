"""What is published of a rollout is read off its record."""

from collections.abc import Mapping

import pytest

from agentrft.rollout import Rollout
from examples.common.tool_server import Tool
from examples.finance.demonstrations import CAREFUL, CARELESS, Habits, demonstrate
from examples.finance.make_data import Dataset
from examples.finance.measures import measures
from examples.finance.policies import every_number, roll_out, without_tools
from examples.finance.questions import Question

CITATIONS = ("valid_citation", "missing_citation", "invalid_citation")


def of(habits: Habits, dataset: Dataset, tools: Mapping[str, Tool]) -> list[tuple[Question, Rollout, dict]]:
    test = dataset.questions["test"]
    rollouts = roll_out(lambda one, with_tools, script: demonstrate(one, with_tools, script, habits), test, tools)
    return [(one, rollout, measures(rollout, one.row())) for one, rollout in zip(test, rollouts, strict=True)]


def test_a_careful_agent_is_right_cites_and_invents_nothing(dataset: Dataset, tools: Mapping[str, Tool]) -> None:
    for question, _, found in of(CAREFUL, dataset, tools):
        assert (found["score"], found["answer_right"], found["hallucinated_numbers"]) == (1.0, 1.0, 0.0)
        assert [found[name] for name in CITATIONS] == [1.0, 0.0, 0.0]
        assert (found["turns"], found["calls"]) == (question.turns, question.turns - 1)


def test_every_answer_has_a_valid_a_missing_or_an_invalid_citation(dataset: Dataset, tools: Mapping[str, Tool]) -> None:
    every = [found for *_, found in of(CARELESS, dataset, tools)]
    assert all(sum(found[name] for name in CITATIONS) == 1.0 for found in every)
    assert all(sum(found[name] for found in every) > 20 for name in CITATIONS)


def test_numbers_worked_out_in_the_head_are_hallucinations(dataset: Dataset, tools: Mapping[str, Tool]) -> None:
    in_the_head = Habits(calculates_in_its_head=1, reads_wrong_year=0, forgets_citation=0)
    every = [(one.calculates, found["hallucinated_numbers"]) for one, _, found in of(in_the_head, dataset, tools)]
    assert {number for calculates, number in every if not calculates} == {0.0}
    # One that is a little off can be a figure of the table by chance.
    invented = [number for calculates, number in every if calculates]
    assert sum(invented) > 0.95 * len(invented)


def test_of_an_agent_without_tools_every_number_is_one(dataset: Dataset, tools: Mapping[str, Tool]) -> None:
    question = dataset.questions["test"][0]
    (rollout,) = roll_out(without_tools, [question], tools)
    found = measures(rollout, question.row())
    assert (found["hallucinated_numbers"], found["invalid_citation"], found["calls"]) == (1.0, 1.0, 0.0)


def test_numbers_that_were_read_are_none_even_where_all_are_listed(dataset: Dataset, tools: Mapping[str, Tool]) -> None:
    question = dataset.questions["test"][0]
    (rollout,) = roll_out(every_number, [question], tools)
    found = measures(rollout, question.row())
    assert (found["score"], found["hallucinated_numbers"]) == (0.0, 0.0)


@pytest.mark.parametrize(("outcome", "score"), [("infra_failed", None), ("model_failed", 0.0)])
def test_a_rollout_that_broke_has_no_measures_and_one_that_failed_has_a_score_of_nothing(
    dataset: Dataset, tools: Mapping[str, Tool], outcome: str, score: float | None
) -> None:
    question = dataset.questions["test"][0]
    (rollout,) = roll_out(without_tools, [question], tools)
    rollout = Rollout.from_dict({**rollout.as_dict(), "outcome": outcome, "output_text": ""})
    assert measures(rollout, question.row())["score"] == score
