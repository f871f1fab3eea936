"""Times, against numbers that were reckoned by hand."""

from dataclasses import replace

import pytest

from agentrft.planning.efficiency import EngineRates, LearnerRates
from agentrft.planning.generation import Engines, generation_times
from agentrft.planning.hardware import Device
from agentrft.planning.model import PlannedModel
from agentrft.planning.times import Ranks, StepTimes, publish_s, step_times, update_flops_of, update_s
from agentrft.planning.workload import Workload

# Without anything beside the work itself.
PLAIN = EngineRates(
    bandwidth_share=1.0, decode_share=1.0, prefill_share=1.0, pass_s=0.0, layer_s=0.0, sequence_s=0.0, all_reduce_s=0.0
)
LINEAR = 36 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12288)
HEAD = 4096 * 151_936


def alone(step: Workload, **changes: object) -> Workload:
    """One rollout of a thousand tokens, which waits for nothing."""
    fixed = {
        "groups": 1,
        "rollouts_per_group": 1,
        "prompt_tokens": 1e-9,
        "turns": 1,
        "turn_tokens": 1000,
        "most_sampled": 1000,
        "tool_s": 0.0,
        "grade_s": 0.0,
        "at_once": 1,
    }
    return replace(step, **{**fixed, **changes})


def test_one_sequence_reads_all_weights_for_each_token(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    times = generation_times(qwen3_8b, alone(step), Engines(1, 1, 8, PLAIN), round_device)
    weights_s = 1000 * 2 * (LINEAR + HEAD) / 1e12
    attention_s = 1000 * 500 * 147_456 / 1e12
    assert times.decode == pytest.approx(weights_s + attention_s, rel=0.01)
    assert times.waves == 1 and times.tools == times.graders == 0


def test_many_sequences_are_bound_by_products(qwen3_8b: PlannedModel, step: Workload, round_device: Device) -> None:
    many = alone(step, groups=4096, at_once=4096)
    times = generation_times(qwen3_8b, many, Engines(1, 1, 4096, PLAIN), round_device)
    products_s = 1000 * 4096 * 2 * (LINEAR + HEAD) / 1e15
    attention_s = 4096 * 1000 * 500 * 147_456 / 1e12
    assert times.decode == pytest.approx(products_s + attention_s, rel=0.01)


def test_two_engines_take_half_of_the_rollouts_each(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    many = alone(step, groups=4096, at_once=4096)
    one = generation_times(qwen3_8b, many, Engines(1, 1, 4096, PLAIN), round_device)
    two = generation_times(qwen3_8b, many, Engines(2, 1, 4096, PLAIN), round_device)
    assert two.decode == pytest.approx(one.decode / 2, rel=0.01)


def test_rollouts_that_do_not_fit_at_once_come_in_waves(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    many = alone(step, groups=64, at_once=64)
    all_at_once = generation_times(qwen3_8b, many, Engines(1, 1, 64, PLAIN), round_device)
    in_waves = generation_times(qwen3_8b, many, Engines(1, 1, 16, PLAIN), round_device)
    assert in_waves.waves == 4
    # Weights are read for each wave anew, keys and values as often as before.
    assert all_at_once.decode < in_waves.decode < 4 * all_at_once.decode


def test_rollouts_of_unequal_lengths_take_longer_than_their_mean(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    engines = Engines(1, 1, 64, PLAIN)
    even = generation_times(qwen3_8b, alone(step, groups=64, at_once=64), engines, round_device)
    uneven = generation_times(qwen3_8b, alone(step, groups=64, at_once=64, most_sampled=100_000), engines, round_device)
    assert 2 * even.decode < uneven.decode < 6 * even.decode


def test_tools_are_waited_for_turn_by_turn_and_a_grade_comes_last(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    times = generation_times(qwen3_8b, step, Engines(1, 1, 64, PLAIN), round_device)
    assert times.tools == 2 * 2.0 and times.graders == 1.0
    assert times.total == times.prefill + times.decode + 5.0


def test_an_update_takes_six_operations_a_weight_and_token(
    qwen3_8b: PlannedModel, qwen3_8b_lora: PlannedModel, step: Workload, round_device: Device
) -> None:
    # 4 groups of one prompt of 1000 and 8 rollouts of 3 x 100 sampled tokens and 2 x 50 of results.
    unique, sampled = 4 * (1000 + 8 * 400), 4 * 8 * 300
    pairs = 4 * (1000 * 1001 / 2 + 8 * (400 * 1000 + 400 * 401 / 2))
    attention = 6 * 36 * 2 * 32 * 128 * pairs
    assert (step.unique_tokens, step.predictions, step.visible_pairs) == (unique, sampled, pairs)
    expected = 6 * (LINEAR * unique + HEAD * sampled) + attention
    assert update_flops_of(qwen3_8b, step) == pytest.approx(expected)
    adapters = 4 * (LINEAR * unique + HEAD * sampled) + attention
    assert update_flops_of(qwen3_8b_lora, step) == pytest.approx(adapters)
    rates = LearnerRates(flops_share=0.5, bandwidth_share=1.0)
    # The optimizer reads and writes 2 x (4 + 8) bytes a number for masters and moments, 4 x 4 for gradients, 2 weights.
    optimizer = (2 * 12 + 16 + 2) * 8_190_735_360 / 1e12
    assert update_s(qwen3_8b, step, round_device, Ranks(1, rates)) == pytest.approx(expected / 0.5e15 + optimizer)


def test_shared_prompts_are_computed_once(qwen3_8b: PlannedModel, step: Workload) -> None:
    apart = replace(step, shares_prompts=False)
    assert (step.unique_tokens, apart.unique_tokens) == (16_800, 44_800)
    assert step.total_tokens == apart.total_tokens == apart.unique_tokens
    assert update_flops_of(qwen3_8b, apart) > 2 * update_flops_of(qwen3_8b, step)


def test_groups_that_teach_nothing_are_not_computed(qwen3_8b: PlannedModel, step: Workload) -> None:
    half = replace(step, trained_groups=2)
    assert update_flops_of(qwen3_8b, half) == pytest.approx(update_flops_of(qwen3_8b, step) / 2)
    assert half.sampled_tokens == step.sampled_tokens


def test_a_reference_takes_a_pass_and_an_epoch_all_of_them(qwen3_8b: PlannedModel, step: Workload) -> None:
    once = update_flops_of(qwen3_8b, step)
    assert update_flops_of(qwen3_8b, replace(step, update_epochs=3)) == pytest.approx(3 * once)
    assert update_flops_of(qwen3_8b, replace(step, extra_forwards=1)) == pytest.approx(4 / 3 * once)


def test_slow_links_between_nodes_hold_ranks_up(qwen3_8b: PlannedModel, step: Workload, round_device: Device) -> None:
    rates = LearnerRates(flops_share=1.0, link_share=1.0)
    inside = update_s(qwen3_8b, step, round_device, Ranks(16, rates))
    across = update_s(qwen3_8b, step, round_device, Ranks(16, rates, crosses_nodes=True))
    # 15/16 of the weights twice and of the gradients once, at 10 GB/s.
    assert across - inside == pytest.approx(15 / 16 * 3 * 16_381_470_720 * (1 / 1e10 - 1 / 1e11), rel=0.05)


def test_files_take_a_disk_and_memory_takes_none(
    qwen3_8b: PlannedModel, qwen3_8b_lora: PlannedModel, round_device: Device
) -> None:
    assert publish_s(qwen3_8b, round_device, "files", apart=True) == pytest.approx(1 + 2 * 16.38147072)
    assert publish_s(qwen3_8b_lora, round_device, "files", apart=True) < 1.2
    assert publish_s(qwen3_8b, round_device, "in_process", apart=False) == pytest.approx(6 * 0.01638147072)


@pytest.fixture
def both(qwen3_8b: PlannedModel, step: Workload, round_device: Device) -> tuple[StepTimes, StepTimes, StepTimes]:
    """In turns; ahead on the same device; ahead on another."""

    def of(work: Workload, *, shared: bool) -> StepTimes:
        return step_times(
            qwen3_8b,
            work,
            round_device,
            engines=Engines(1, 1, 64, PLAIN),
            ranks=Ranks(1, LearnerRates(flops_share=0.05)),
            shared=shared,
            publishing="links",
            sleeps=False,
        )

    ahead = replace(step, runs_ahead=True)
    return of(step, shared=True), of(ahead, shared=True), of(ahead, shared=False)


def test_what_runs_ahead_overlaps(both: tuple[StepTimes, StepTimes, StepTimes]) -> None:
    turns, same, other = both
    rollouts, update, publish = turns.rollouts, turns.update, turns.publish
    assert turns.total == pytest.approx(rollouts.total + update + publish)
    # On one device only the waiting for tools and graders overlaps.
    assert same.total == pytest.approx(max(rollouts.total, rollouts.engine + update) + publish)
    assert other.total == pytest.approx(max(rollouts.total, update) + publish)
    assert other.total < same.total < turns.total
