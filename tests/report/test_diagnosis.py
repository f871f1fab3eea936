"""Why a job learns nothing, in words, by its first two steps; and how it goes where it does."""

from typing import Any

import pytest

from agentrft.report.diagnosis import diagnose

# A step that learns.
FINE: dict[str, Any] = {
    "phase": "train",
    "reward_mean": 0.4,
    "reward_std": 0.45,
    "samples": 8,
    "pass_at_1": 0.4,
    "zero_variance_share": 0.2,
    "truncation_share": 0.0,
    "infra_failure_share": 0.0,
    "sampled_tokens_mean": 40.0,
    "tool_statuses": {"ok": 60, "bad_call": 4},
    "optimizer_steps": 4,
    "policy_change": 0.002,
    "entropy": 0.5,
}


def steps(count: int = 2, **changes: Any) -> list[dict[str, Any]]:
    return [{**FINE, **changes, "step": number} for number in range(1, count + 1)]


CANNOT_LEARN = {
    "all_zero": {"reward_mean": 0.0, "reward_std": 0.0, "pass_at_1": 0.0, "zero_variance_share": 1.0},
    "all_right": {"reward_mean": 1.0, "reward_std": 0.0, "pass_at_1": 1.0, "zero_variance_share": 1.0},
    "constant_grader": {"reward_mean": 0.3, "reward_std": 0.0, "pass_at_1": 0.0, "zero_variance_share": 1.0},
    "cut_off": {"truncation_share": 1.0, "reward_mean": 0.0, "reward_std": 0.0, "pass_at_1": 0.0},
    "tools_fail": {"tool_statuses": {"error": 60}, "reward_mean": 0.0, "reward_std": 0.0},
    "no_change": {"policy_change": 1e-12},
    "empty_turns": {"sampled_tokens_mean": 1.0, "reward_mean": 0.0, "reward_std": 0.0},
    "infrastructure": {"infra_failure_share": 0.9},
    "no_variance": {"zero_variance_share": 1.0},
}


@pytest.mark.parametrize("change", [None, 0.0])
def test_one_optimizer_step_a_batch_is_held_against_the_start_since_it_never_sees_what_it_did(change: Any) -> None:
    alone = {"optimizer_steps": 1, "policy_change": change}
    assert all(one.key != "no_change" for one in diagnose(steps(3, **alone, kl_to_start=0.1)))
    assert diagnose(steps(3, **alone, kl_to_start=0.0))[0].key == "no_change"
    # In the first step nothing says so.
    assert all(one.key != "no_change" for one in diagnose(steps(1, **alone, kl_to_start=0.0)))


@pytest.mark.parametrize("key", CANNOT_LEARN)
@pytest.mark.parametrize("count", [1, 2])
def test_what_keeps_a_job_from_learning_is_named_within_two_steps_with_a_remedy(key: str, count: int) -> None:
    first = diagnose(steps(count, **CANNOT_LEARN[key]))[0]
    assert (first.key, first.level) == (key, "bad") and first.remedy


def test_a_single_odd_step_is_no_reason() -> None:
    rows = [*steps(1), {**FINE, **CANNOT_LEARN["cut_off"], "step": 2}]
    assert "cut_off" not in {one.key for one in diagnose(rows)}


@pytest.mark.parametrize(
    ("change", "key", "level"), [(0.03, "rises", "good"), (-0.03, "falls", "bad"), (0.0, "flat", "bad")]
)
def test_the_course_of_the_reward_is_told(change: float, key: str, level: str) -> None:
    rows = steps(12)
    for number, row in enumerate(rows):
        row["reward_mean"] += change * number + 0.005 * (-1) ** number
    assert (diagnose(rows)[0].key, diagnose(rows)[0].level) == (key, level)


@pytest.mark.parametrize(("epochs", "is_told"), [([1] * 12, False), ([None] * 12, False), ([1] * 8 + [2] * 4, True)])
def test_a_reward_of_samples_that_were_trained_on_before_is_told_as_such(epochs: list[Any], is_told: bool) -> None:
    rows = [{**row, "epoch": epoch} for row, epoch in zip(steps(12), epochs, strict=True)]
    assert ("trained on before" in diagnose(rows)[0].text) is is_told


def test_what_hampers_is_told_beside() -> None:
    rows = steps(6, zero_variance_share=0.7, truncation_share=0.2)
    for row in rows[3:]:
        row["entropy"] = 0.05
    assert {"little_variance", "some_cut_off", "entropy"} <= {one.key for one in diagnose(rows)}


def test_before_the_first_step_nothing_is_known() -> None:
    assert [one.key for one in diagnose([])] == ["not_begun"]


def test_a_baseline_alone_is_judged_too() -> None:
    row = {**FINE, **CANNOT_LEARN["all_zero"], "phase": "validation", "step": 0}
    assert diagnose([row])[0].key == "all_zero"
