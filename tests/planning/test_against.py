"""What a job's steps took, read from their metrics, and the step that they are made into again."""

from dataclasses import replace
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.planning.against import as_it_was, planned_took, took, train_rows
from agentrft.planning.hardware import gpu_device
from agentrft.planning.model import PlannedModel
from agentrft.planning.splits import Cluster, Split, plan_split
from agentrft.planning.workload import Workload


def metrics_of(work: Workload, **changes: Any) -> dict[str, Any]:
    """What a step that is just as planned would be recorded as."""
    epochs = work.update_epochs
    tool = {
        "calls_per_rollout": work.calls_per_rollout,
        "latency_mean_s": work.tool_s,
        "tokens_per_call": work.result_tokens / work.calls_per_turn,
    }
    return {
        "phase": "train",
        "step": 1,
        "rollouts": work.rollouts,
        "samples": work.groups,
        "agent_usage": {"turns": work.turns * work.rollouts},
        "sampled_tokens_mean": work.sampled_per_rollout,
        "tool_calls_mean": work.calls_per_rollout,
        "tools": {"search": tool},
        "graders": {"one": {"grades": work.rollouts}},
        "grader_latency_mean_s": work.grade_s,
        "groups_trained": work.learned_groups,
        "optimizer_steps": work.minibatches * epochs,
        "unique_tokens": work.unique_tokens * epochs,
        "total_tokens": work.total_tokens * epochs,
        "step_s": 100.0,
        "rollout_s": 60.0,
        "waited_s": 60.0,
        "engine_busy_s": 40.0,
        "update_s": 30.0,
        **changes,
    }


@pytest.mark.parametrize(("epochs", "merged"), [(1, 0.0), (2, 0.0), (1, 500.0)])
def test_a_step_is_found_again_in_what_it_left(step: Workload, epochs: int, merged: float) -> None:
    work = replace(step, update_epochs=epochs, trained_groups=4.0, merged_tokens=merged)
    found = as_it_was(replace(work, prompt_tokens=7, turns=9, turn_tokens=5, result_tokens=1), [metrics_of(work)] * 2)
    for name in ("groups", "rollouts_per_group", "turns", "tool_s", "grade_s", "minibatches", "calls_per_turn"):
        assert getattr(found, name) == getattr(work, name), name
    for name in ("prompt_tokens", "turn_tokens", "result_tokens", "merged_tokens", "unique_tokens"):
        assert getattr(found, name) == pytest.approx(getattr(work, name)), name


def test_a_step_that_taught_nothing_keeps_what_was_assumed(step: Workload) -> None:
    nothing = metrics_of(step, groups_trained=0, unique_tokens=0, total_tokens=0, optimizer_steps=0)
    found = as_it_was(step, [nothing])
    assert found.prompt_tokens == step.prompt_tokens and found.unique_tokens == 0
    assert found.sampled_tokens == pytest.approx(step.sampled_tokens)


def test_what_was_measured_is_told_by_part(step: Workload) -> None:
    found = took([metrics_of(step), metrics_of(step, step_s=200.0, waited_s=150.0)], rented=2, gpu_hour=3.0)
    assert (found.step_s, found.rollout_s, found.engine_s, found.update_s) == (150.0, 60.0, 40.0, 30.0)
    assert found.publish_s == 150 - 105 - 30
    assert found.gpu_hours == pytest.approx(2 * 150 / 3600) and found.cost == pytest.approx(3 * 2 * 150 / 3600)
    assert (found.rollouts, found.tool_calls, found.grades) == (32, 64, 32)
    assert found.sampled_tokens == step.sampled_tokens


def test_a_plan_and_a_job_are_told_in_the_same_words(qwen3_8b_lora: PlannedModel, step: Workload) -> None:
    one = plan_split(
        qwen3_8b_lora, step, Cluster(gpu_device("h100")), Split("embedded", 1, 1, 1, shared=True), gpu_hour=3.0
    )
    planned = planned_took(step, one, gpu_hour=3.0)
    measured = took([metrics_of(step)], rented=1, gpu_hour=3.0)
    assert planned.as_dict().keys() == measured.as_dict().keys()
    for name in ("rollouts", "sampled_tokens", "unique_tokens", "tool_calls", "grades"):
        assert getattr(planned, name) == pytest.approx(getattr(measured, name)), name


def test_a_job_without_a_step_has_nothing_to_compare(step: Workload) -> None:
    with pytest.raises(UserError, match="ftjob-1 has no training step"):
        train_rows([metrics_of(step, phase="validation")], "ftjob-1")
