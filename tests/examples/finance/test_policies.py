"""Short cuts are paid less than the demonstrator, who is paid less than an agent that does everything right."""

from collections.abc import Callable, Mapping

import pytest

from examples.common.tool_server import Tool
from examples.finance import grader, grader_naive
from examples.finance.make_data import Dataset, policy_table
from examples.finance.policies import mean_score, roll_out, scripted_policies

SHORT_CUTS = ["first number of the first hit", "first cell of the right row", "no tools", "most common answer"]
Scores = dict[str, float]


@pytest.fixture(scope="module")
def scored(dataset: Dataset, tools: Mapping[str, Tool]) -> Callable[[Callable[[dict, dict], float]], Scores]:
    test = dataset.questions["test"]
    policies = scripted_policies(dataset.questions["train"])
    rollouts = {name: roll_out(policy, test, tools) for name, policy in policies.items()}
    return lambda grade: {name: mean_score(found, test, grade) for name, found in rollouts.items()}


def test_the_oracle_gets_all_and_the_demonstrator_about_half(scored: Callable[..., Scores]) -> None:
    scores = scored(grader.grade)
    assert scores["oracle"] == 1.0
    assert 0.4 < scores["demonstrator"] < 0.65


@pytest.mark.parametrize("short_cut", [*SHORT_CUTS, "every number"])
def test_a_short_cut_is_paid_less_than_half_of_the_demonstrator(scored: Callable[..., Scores], short_cut: str) -> None:
    scores = scored(grader.grade)
    assert scores[short_cut] < 0.5 * scores["demonstrator"]


def test_listing_every_number_wins_under_the_naive_grader_and_gets_nothing_under_the_hardened_one(
    scored: Callable[..., Scores],
) -> None:
    naive, hardened = scored(grader_naive.grade), scored(grader.grade)
    assert max(naive, key=lambda name: naive[name]) == "every number"
    assert hardened["every number"] == 0.0


def test_the_table_has_a_line_for_each_policy(dataset: Dataset) -> None:
    small = Dataset(dataset.filings, {**dataset.questions, "test": dataset.questions["test"][:4]})
    assert len(policy_table(small).splitlines()) == 1 + len(scripted_policies(dataset.questions["train"]))
