"""Alarms: what rings, at which threshold, over which steps, and which rollouts show it."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from agentrft.report.alarms import SHARES, Alarm, ringing, rollouts_that_show
from agentrft.report.summary import Summary, summarise
from agentrft.rollout import Rollout
from agentrft.rollout.record import ToolCallRecord, Turn
from agentrft.spec import AlarmsSpec

QUIET = {**dict.fromkeys(SHARES, 0.0), "sampled_tokens_mean": 100.0, "reward_mean": 0.5}


def steps(name: str, *values: float) -> list[dict[str, Any]]:
    return [{**QUIET, name: value} for value in values]


def alarms(**given: Any) -> AlarmsSpec:
    return AlarmsSpec.model_validate(given)


@pytest.mark.parametrize("name", SHARES)
def test_a_share_rings_when_its_mean_over_the_steps_is_above_the_threshold(name: str) -> None:
    spec = alarms(**{name: {"threshold": 0.4, "over_steps": 2}})
    assert ringing(spec, steps(name, 1.0, 0.3, 0.5)) == {}
    assert list(ringing(spec, steps(name, 0.0, 0.4, 0.5))) == [name]
    assert ringing(spec, steps(name, 1.0)) == {}, "one step is not two"


def test_an_engine_that_computes_other_log_probabilities_than_the_learner_rings() -> None:
    assert ringing(AlarmsSpec(), steps("logprob_gap_mean", 0.3, 0.04)) == {}
    found = ringing(AlarmsSpec(), steps("logprob_gap_mean", 0.0, 0.12))["engine_mismatch"]
    assert (
        found.value == pytest.approx(0.12) and "differ by 0.12 nats a token" in found.text and "adapter" in found.text
    )
    # An update lies between what was sampled a version ahead and what is trained.
    ahead = [{**row, "off_policy_steps": 1} for row in steps("logprob_gap_mean", 0.0, 0.12)]
    assert ringing(AlarmsSpec(), ahead) == {}
    assert ringing(alarms(engine_mismatch=False), steps("logprob_gap_mean", 0.12)) == {}


def test_output_that_became_twice_as_long_or_half_as_long_rings() -> None:
    spec = alarms(output_length_drift={"threshold": 1.9, "over_steps": 1})
    longer = ringing(spec, steps("sampled_tokens_mean", 100, 200))["output_length_drift"]
    shorter = ringing(spec, steps("sampled_tokens_mean", 100, 50))["output_length_drift"]
    assert (longer.value, shorter.value) == (2.0, 2.0)
    assert "longer by a factor of 2.0: 100 to 200" in longer.text
    assert "shorter by a factor of 2.0: 100 to 50" in shorter.text
    assert ringing(spec, steps("sampled_tokens_mean", 100, 180)) == {}


def test_a_holdout_that_falls_while_the_reward_rises_rings_with_its_name() -> None:
    rising = [{**QUIET, "reward_mean": 0.1 * n, "holdout_scores": {"honest": 1 - 0.1 * n}} for n in range(10)]
    assert list(ringing(AlarmsSpec(), rising)) == ["holdout_divergence:honest"]
    assert ringing(alarms(holdout_divergence=0.9), rising) == {}
    assert ringing(alarms(holdout_divergence=False), rising) == {}


def test_an_alarm_may_be_a_threshold_an_action_or_nothing() -> None:
    spec = alarms(truncation_share=0.1, parse_error_share="pause", repeated_call_share=False, zero_variance_share=True)
    assert spec.truncation_share is not None and spec.parse_error_share is not None
    assert (spec.truncation_share.threshold, spec.truncation_share.action) == (0.1, "warn")
    assert (spec.parse_error_share.threshold, spec.parse_error_share.action) == (0.5, "pause")
    assert spec.repeated_call_share is None
    assert spec.zero_variance_share == AlarmsSpec().zero_variance_share
    everything = dict.fromkeys(SHARES, 1.0)
    assert "repeated_call_share" not in ringing(spec, [{**QUIET, **everything}] * 3)


@pytest.mark.parametrize(
    "given", [{"truncation_share": 1}, {"output_length_drift": 0.5}, {"parse_error_share": "stop"}, {"loss": 0.5}]
)
def test_an_alarm_that_could_never_or_always_ring_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        alarms(**given)


def call(name: str, arguments: str, status: str = "ok") -> ToolCallRecord:
    return ToolCallRecord("c", name, arguments, "", status, 0.0, 1)


def rollout(trace_id: str, *calls: ToolCallRecord, tokens: int = 1, kind: str | None = None) -> Rollout:
    broken = kind is not None and ":" in kind
    outcome: Any = "infra_failed" if broken else "model_failed" if kind else "graded"
    turn = Turn([1], [2] * tokens, [0.0] * tokens, "stop", 1, tool_calls=list(calls))
    return Rollout(trace_id, 1, "s", 1, 0, outcome, [turn], [], failure_kind=kind, reward=None if broken else 0.0)


ROLLOUTS = [
    rollout("long", tokens=90),
    rollout("cut", kind="max_tokens", tokens=50),
    rollout("full", kind="context", tokens=60),
    rollout("unread", call("", "", "bad_call"), kind="max_turns"),
    rollout("again", call("a", '{"x": 1, "y": 2}'), call("a", '{"y": 2, "x": 1}'), call("b", "{}")),
    rollout("broken", kind="tool:timeout", tokens=5),
]
RESAMPLED = replace(rollout("resampled"), attempt=2, given_up=["grader:exception"])


def test_shares_are_of_rollouts_and_of_calls() -> None:
    summary = summarise(ROLLOUTS)
    assert summary.truncation_share == pytest.approx(2 / 6)
    assert summary.parse_error_share == pytest.approx(1 / 6)
    assert summary.infra_failure_share == pytest.approx(1 / 6)
    assert summary.repeated_call_share == pytest.approx(1 / 4)


def test_a_grader_that_breaks_on_some_answers_shows_in_first_attempts_though_few_rollouts_fail() -> None:
    twice = replace(rollout("twice", kind="grader:exception"), attempt=2, given_up=["grader:exception"])
    good = [rollout(f"good{n}") for n in range(6)]
    summary = summarise([twice, RESAMPLED, replace(RESAMPLED, trace_id="other"), *good, rollout("cut", kind="context")])
    assert (summary.infra_failure_share, summary.first_attempt_failure_share) == (0.1, 0.3)
    assert summary.first_attempt_failures == {"grader:exception": 3}
    assert summary.failures == {"context": 1, "grader:exception": 1}
    alarm = ringing(AlarmsSpec(), [{**QUIET, **summary.as_dict()}])["first_attempt_failure_share"]
    assert "30% of the rollouts broke on infrastructure at their first attempt: 3 x grader:exception" in alarm.text
    assert Summary.from_metrics(summary.as_dict()) == summary


def test_what_broke_first_counts_and_not_what_broke_later() -> None:
    both = replace(rollout("both", kind="grader:exception"), attempt=2, given_up=["tool:timeout"])
    once = rollout("once", kind="tool:exception")
    failed = replace(rollout("failed", kind="max_turns"), attempt=2, given_up=["engine:timeout"])
    kinds = [one.first_attempt_failure for one in (both, once, failed, rollout("good"), rollout("cut", kind="context"))]
    assert kinds == ["tool:timeout", "tool:exception", "engine:timeout", None, None]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("truncation_share", ["full", "cut"]),
        ("parse_error_share", ["unread"]),
        ("infra_failure_share", ["broken"]),
        ("repeated_call_share", ["again"]),
        ("first_attempt_failure_share", ["broken"]),
        ("missing_sample_key_share", []),
        ("output_length_drift", ["long", "full", "cut"]),
        ("zero_variance_share", []),
    ],
)
def test_the_rollouts_to_read_are_those_that_show_it_best(key: str, shown: list[str]) -> None:
    assert rollouts_that_show(Alarm(key, 1.0, 0.5, "warn", ""), ROLLOUTS) == shown
