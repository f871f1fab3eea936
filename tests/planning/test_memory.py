"""Memory of devices, against numbers that were reckoned by hand."""

from dataclasses import replace

import pytest

from agentrft.planning.hardware import Device, gpu_device
from agentrft.planning.memory import engine_memory, learner_memory, learner_parts, shared_memory
from agentrft.planning.model import PlannedModel
from agentrft.planning.workload import Workload

NUMBERS = 8_190_735_360


def test_all_weights_of_an_8b_model_take_two_bytes_and_sixteen(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    parts, _ = learner_parts(qwen3_8b, step, round_device, 1)
    assert qwen3_8b.weights == parts["weights"] == 16_381_470_720
    assert parts["masters"] == parts["gradients"] == 32_762_941_440
    assert parts["moments"] == 65_525_882_880
    assert "merged weights" not in parts and "gathered layers" not in parts


def test_ranks_have_a_part_each_and_two_layers_whole(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device
) -> None:
    parts, _ = learner_parts(qwen3_8b, step, round_device, 4)
    assert parts["weights"] == 2 * NUMBERS / 4 and parts["moments"] == 8 * NUMBERS / 4
    # The head is larger than two layers: 151,936 x 4,096 against 2 x 192,937,984.
    assert parts["gathered layers"] == 2 * 151_936 * 4096


def test_adapters_take_little_and_a_merged_copy(
    qwen3_8b_lora: PlannedModel, step: Workload, round_device: Device
) -> None:
    parts, _ = learner_parts(qwen3_8b_lora, step, round_device, 1)
    # Rank 16 of q, k, v, o, gate, up and down in 36 layers of width 4096, 8 x 128 for keys, and 12,288 inside.
    adapter = 36 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12288))
    assert qwen3_8b_lora.trained == adapter
    assert parts["adapters"] == 2 * adapter and parts["masters"] == 4 * adapter and parts["moments"] == 8 * adapter
    # Without embeddings, head and norms.
    assert parts["merged weights"] == 2 * 36 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12288)


def test_a_token_takes_what_the_layers_keep_of_it(qwen3_8b: PlannedModel) -> None:
    assert qwen3_8b.kv_bytes == 36 * 8 * (128 + 128) * 2 == 147_456


def test_a_server_has_room_for_as_many_rollouts_as_are_left_beside_its_weights(
    qwen3_8b: PlannedModel, step: Workload
) -> None:
    h100 = gpu_device("h100")
    found = engine_memory(qwen3_8b, step, h100, engine="vllm", count=1, per_engine=1)
    room = int(0.9 * 85e9) - 16_381_470_720 - 2_000_000_000 - 2_500_000_000
    assert found.fits and found.longest == room // (4096 * 147_456)
    two = engine_memory(qwen3_8b, step, h100, engine="vllm", count=1, per_engine=2)
    assert two.parts["engine's weights"] == 16_381_470_720 / 2 and two.longest > 2 * found.longest


def test_what_does_not_fit_says_by_how_much_for_what_and_what_to_change(qwen3_8b: PlannedModel, step: Workload) -> None:
    found = learner_memory(qwen3_8b, step, gpu_device("h100"), 1)
    assert not found.fits and found.spare < 0
    ((cause, remedy),) = found.faults
    assert "of which 65.5 are for moments" in cause and "85 GB of h100" in cause
    assert "more learner ranks" in remedy and "lora_rank: 16" in remedy


def test_an_engine_without_room_for_one_rollout_does_not_fit(qwen3_8b: PlannedModel, step: Workload) -> None:
    long = replace(step, context_tokens=2_000_000)
    found = engine_memory(qwen3_8b, long, gpu_device("h100"), engine="vllm", count=1, per_engine=1)
    assert not found.fits and "one rollout of 2,000,000 tokens" in found.faults[0][0]
    assert "max_context_tokens" in found.faults[0][1]


def test_on_a_shared_gpu_the_larger_of_cache_and_activations_counts(
    qwen3_8b_lora: PlannedModel, step: Workload
) -> None:
    h100 = gpu_device("h100")
    found = shared_memory(qwen3_8b_lora, step, h100, engine="embedded", ranks=1, per_engine=1)
    activations = learner_parts(qwen3_8b_lora, step, h100, 1)[0]["activations"]
    both = found.parts["keys and values"] + found.parts.get("activations", 0)
    assert both == max(found.parts["keys and values"], activations)
    # The engine computes with the learner's merged weights; one that samples ahead has its own.
    assert "engine's weights" not in found.parts
    ahead = shared_memory(qwen3_8b_lora, replace(step, runs_ahead=True), h100, engine="embedded", ranks=1, per_engine=1)
    assert ahead.parts["engine's weights"] == qwen3_8b_lora.weights


@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_parts_and_what_is_to_spare_come_to_what_there_is(
    qwen3_8b: PlannedModel, step: Workload, round_device: Device, ranks: int
) -> None:
    found = learner_memory(qwen3_8b, step, round_device, ranks)
    assert sum(found.parts.values()) + found.spare == found.capacity == 10**12
    assert all(size > 0 for size in found.parts.values())


def test_a_pass_has_whole_groups(qwen3_8b_lora: PlannedModel, step: Workload, round_device: Device) -> None:
    """Of 4,200 unique tokens each: 7 of them are within the 32,768 that a GPU computes together, one within a CPU's."""
    many = replace(step, groups=64, minibatches=4)
    per_token = qwen3_8b_lora.costs.activation_bytes
    logits = 3 * 1024 * 151_936 * 2
    on_gpu = learner_parts(qwen3_8b_lora, many, round_device, 1)[0]["activations"]
    on_cpu = learner_parts(qwen3_8b_lora, many, replace(round_device, is_cpu=True), 1)[0]["activations"]
    assert on_gpu == pytest.approx(7 * 4200 * per_token + logits)
    assert on_cpu == pytest.approx(4200 * per_token + logits)
