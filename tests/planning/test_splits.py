"""Which GPUs generate and which learn: nothing cheaper is left out, and what is paid for is what is used."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agentrft.planning.hardware import gpu_device
from agentrft.planning.model import PlannedModel, planned_model
from agentrft.planning.splits import Cluster, PlannedSplit, Split, every_split, plan_split, planned_splits
from agentrft.planning.workload import Workload
from agentrft.spec.cluster import MOST_LEARNER_WORKERS

PRICE = 2.0
EXPERTS = {
    "model_type": "qwen3_moe",
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 1024,
}


def by_brute_force(model: PlannedModel, work: Workload, cluster: Cluster) -> list[PlannedSplit]:
    """Every combination of numbers that could be a split."""
    found: list[PlannedSplit] = []
    for engine in ("embedded", "vllm"):
        for engines in range(1, cluster.gpus + 1):
            for width in range(1, cluster.gpus + 1):
                for ranks in range(1, cluster.gpus + 1):
                    for shared in (True, False):
                        split = Split(engine, engines, width, ranks, shared)
                        is_power = width & (width - 1) == 0 and width <= cluster.per_node
                        fills = engines * width == ranks if shared else engines * width + ranks <= cluster.gpus
                        one = engines == width == 1 and (ranks == 1 if shared else ranks < cluster.per_node)
                        if is_power and fills and (engine == "vllm" or one):
                            found.append(plan_split(model, work, cluster, split, gpu_hour=PRICE))
    return found


@pytest.mark.parametrize(("gpu", "per_node", "nodes"), [("h100", 8, 1), ("h200", 4, 2), ("a100", 6, 1), ("l40s", 8, 1)])
@pytest.mark.parametrize("runs_ahead", [False, True])
def test_the_cheapest_split_is_the_cheapest_of_all(
    qwen3_8b: PlannedModel, step: Workload, gpu: str, per_node: int, nodes: int, runs_ahead: bool
) -> None:
    cluster = Cluster(gpu_device(gpu), per_node, nodes)
    work = replace(step, runs_ahead=runs_ahead)
    found = planned_splits(qwen3_8b, work, cluster, ("embedded", "vllm"), gpu_hour=PRICE)
    forced = by_brute_force(qwen3_8b, work, cluster)
    assert {one.split for one in found} == {one.split for one in forced} and len(found) == len(forced)
    fitting = [one for one in forced if one.fits]
    assert fitting and found[0].gpu_cost == min(one.gpu_cost for one in fitting)
    costs = [one.gpu_cost for one in found if one.fits]
    assert costs == sorted(costs) and len(costs) == len(fitting)
    assert all(one.fits for one in found[: len(costs)])


def test_nothing_fits_where_there_is_too_little(qwen3_8b: PlannedModel, step: Workload) -> None:
    found = planned_splits(qwen3_8b, step, Cluster(gpu_device("h100")), ("embedded", "vllm"), gpu_hour=PRICE)
    assert found and not any(one.fits for one in found)


def test_of_one_node_what_is_used_is_paid_for_and_of_several_whole_ones() -> None:
    cluster = Cluster(gpu_device("h100"), per_node=8, nodes=3)
    assert [cluster.rented(used) for used in (1, 5, 8, 9, 16, 17, 24)] == [1, 5, 8, 16, 16, 24, 24]


def test_a_step_costs_its_rented_hours(qwen3_8b: PlannedModel, step: Workload) -> None:
    cluster = Cluster(gpu_device("h100"), per_node=8, nodes=2)
    one = plan_split(qwen3_8b, step, cluster, Split("vllm", 2, 2, 6, shared=False), gpu_hour=PRICE)
    assert one.rented == 16
    assert one.gpu_cost == pytest.approx(16 * PRICE * one.times.total / 3600)
    assert one.gpu_hours == pytest.approx(16 * one.times.total / 3600)


def test_of_many_gpus_whole_nodes_are_tried_and_all_of_them_can_be_used(step: Workload) -> None:
    cluster = Cluster(gpu_device("h100"), per_node=8, nodes=16)
    found = list(every_split(cluster, replace(step, groups=100), ("embedded", "vllm"), may_shard_base=False))
    assert len(found) == len(set(found)) < 4000
    assert all(one.used <= 128 for one in found) and max(one.used for one in found) == 128
    assert {one.ranks for one in found if one.shared and one.per_engine == 8} == set(range(8, 65, 8))


def test_there_are_no_more_ranks_than_rollouts(step: Workload) -> None:
    few = replace(step, groups=1, rollouts_per_group=2)
    cluster = Cluster(gpu_device("h100"), per_node=8)
    assert max(one.ranks for one in every_split(cluster, few, ("vllm",), may_shard_base=False)) == 2


def test_there_are_no_more_ranks_than_a_job_may_have(step: Workload) -> None:
    cluster, many = Cluster(gpu_device("h100"), per_node=8, nodes=16), replace(step, groups=100)
    assert max(one.ranks for one in every_split(cluster, many, ("vllm",), may_shard_base=False)) == MOST_LEARNER_WORKERS


def test_two_ranks_hold_a_smaller_part_each_and_are_faster(qwen3_8b: PlannedModel, step: Workload) -> None:
    cluster = Cluster(gpu_device("h200"), per_node=8)
    two, four = (
        plan_split(qwen3_8b, step, cluster, Split("vllm", 1, 1, ranks, shared=False), gpu_hour=PRICE)
        for ranks in (2, 4)
    )
    assert four.times.update < two.times.update
    assert four.memory[1].total < two.memory[1].total


def test_adapters_are_planned_on_a_whole_base_and_on_a_divided_one(qwen3_8b_lora: PlannedModel, step: Workload) -> None:
    cluster = Cluster(gpu_device("h100"), per_node=4)
    found = planned_splits(qwen3_8b_lora, step, cluster, ("vllm",), gpu_hour=PRICE)
    plans = {one.split: one for one in found}
    for split, one in plans.items():
        other = plans.get(replace(split, shards_base=True))
        assert (split.ranks > 1) == (split.shards_base or other is not None)
        if other is not None and other is not one:
            learner, divided = one.memory[-1].parts, other.memory[-1].parts
            assert divided["weights"] == learner["weights"] / split.ranks and "merged weights" in learner
            assert "merged weights" not in divided and divided["masters"] == learner["masters"]
            assert other.times.update >= one.times.update
    # A whole base is taken where there is room for it.
    assert found[0].fits and not found[0].split.shards_base


def test_a_base_that_no_gpu_holds_is_divided(step: Workload) -> None:
    model = planned_model("Qwen/Qwen3-32B", None, dtype=torch.bfloat16, lora_rank=16)
    found = planned_splits(model, step, Cluster(gpu_device("h100"), per_node=8), ("vllm",), gpu_hour=PRICE)
    assert found[0].fits and found[0].split.shards_base
    assert not any(one.fits for one in found if not one.split.shards_base)


def test_experts_under_adapters_are_whole_on_each_rank(step: Workload, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(EXPERTS))
    model = planned_model("some-moe", config, dtype=torch.bfloat16, lora_rank=16)
    found = planned_splits(model, step, Cluster(gpu_device("h100"), per_node=2), ("vllm",), gpu_hour=PRICE)
    assert {one.split.ranks for one in found} == {1, 2} and not any(one.split.shards_base for one in found)
