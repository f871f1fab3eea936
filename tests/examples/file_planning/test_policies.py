"""Scripted policies through the real tools and grader: reading pays most, and no short cut pays as much as the
demonstrations."""

from pathlib import Path

import pytest

from examples.file_planning.make_data import read_rows, world_of
from examples.file_planning.policies import POLICIES, SHORT_CUTS, Result, play
from examples.file_planning.tools import PlanningTools

ROWS = 80


@pytest.fixture(scope="module")
def results(data: Path) -> dict[str, Result]:
    rows, world = read_rows(data / "test.jsonl")[:ROWS], world_of(data, seed=0)
    tools = PlanningTools(data / "repositories", jailed=False)
    return {name: play(policy, rows, world, tools) for name, policy in POLICIES.items()}


def test_what_can_be_reached_is_far_above_the_demonstrator(results: dict[str, Result]) -> None:
    assert results["oracle"].reward > results["demonstrator"].reward + 0.15
    assert results["reader"].reward > results["demonstrator"].reward + 0.15


def test_what_reinforcement_has_to_find_is_fewer_turns(results: dict[str, Result]) -> None:
    assert results["demonstrator"].file_f1 > 0.9
    assert results["demonstrator"].turns > 2 * results["reader"].turns


@pytest.mark.parametrize("name", SHORT_CUTS)
def test_no_short_cut_pays_as_much_as_the_demonstrator(results: dict[str, Result], name: str) -> None:
    assert results[name].reward < results["demonstrator"].reward - 0.1


@pytest.mark.parametrize("name", ["usual_file", "names_alone", "everything", "first_of_listing"])
def test_who_skips_the_search_gets_almost_nothing(results: dict[str, Result], name: str) -> None:
    assert results[name].reward < 0.1
