"""A verdict's remedy in the words of whoever reads it."""

import re

import pytest

from agentrft.report import Ways, api_ways, cli_ways, summarise, verdict
from agentrft.rollout import Rollout
from tests.report.test_summary import rollout

REFUSED = {
    "broken": [rollout(None, None)] * 2,
    "zero": [rollout(0.0, None)] * 2,
    "alike": [rollout(0.5, None)] * 2,
}


@pytest.mark.parametrize("rollouts", REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_means_of_the_api_and_no_command(rollouts: list[Rollout]) -> None:
    remedy = verdict(summarise(rollouts)).remedy_by(api_ways("eval_1", has_warm_start=False))
    assert "eval `eval_1`" in remedy
    assert not re.search(r"agentrft [a-z]|--[a-z]|\{read\}|\{warm_start\}|\{skip_baseline\}", remedy), remedy


@pytest.mark.parametrize("ways", [api_ways("eval_1", has_warm_start=False), cli_ways()])
def test_who_gets_only_zeros_is_told_of_a_warm_start_and_of_going_on(ways: Ways) -> None:
    remedy = verdict(summarise(REFUSED["zero"])).remedy_by(ways)
    assert ways.warm_start in remedy and "warm_start" in ways.warm_start
    assert ways.skip_baseline in remedy and "baseline" in ways.skip_baseline


@pytest.mark.parametrize("ways", [api_ways("eval_1", has_warm_start=True), cli_ways(has_warm_start=True)])
def test_who_has_a_warm_start_is_not_told_to_add_one(ways: Ways) -> None:
    remedy = verdict(summarise(REFUSED["zero"])).remedy_by(ways)
    assert "add a warm start" not in remedy and "more demonstrations or epochs (its `n_epochs`)" in remedy
