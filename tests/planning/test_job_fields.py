"""What a job file says to run on a split, and the split that a job file says."""

from typing import Any

import pytest

from agentrft.planning.hardware import Device, gpu_device
from agentrft.planning.job_fields import fields_of, split_of
from agentrft.planning.model import PlannedModel
from agentrft.planning.splits import Cluster, Split, every_split, plan_split
from agentrft.planning.workload import Workload
from agentrft.spec.cluster import ClusterSpec
from agentrft.spec.engine import EngineSpec

H100 = gpu_device("h100")
ATTACHED = {"type": "vllm", "urls": ["http://a:1", "http://b:1"]}
WIDE = {"type": "vllm", "command": "vllm serve --tensor-parallel-size=4", "sleep": True}


def said(fields: dict[str, Any], device: Device = H100) -> Split:
    return split_of(EngineSpec.model_validate(fields["engine"]), ClusterSpec(**fields.get("cluster", {})), device)


@pytest.mark.parametrize(
    ("engine", "cluster", "split"),
    [
        ({}, {}, Split("embedded", 1, 1, 1, shared=True)),
        ({"device": "cuda:3"}, {"learner_workers": 3}, Split("embedded", 1, 1, 3, shared=False)),
        ({"type": "vllm", "command": "vllm serve"}, {}, Split("vllm", 1, 1, 1, shared=False)),
        ({"type": "vllm", "command": "vllm serve -tp 2"}, {}, Split("vllm", 1, 2, 1, shared=False)),
        ({"type": "vllm", "command": "vllm serve -tp $N"}, {}, Split("vllm", 1, 1, 1, shared=False)),
        (WIDE, {"learner_workers": 4}, Split("vllm", 1, 4, 4, shared=True)),
        (WIDE, {"learner_workers": 4, "shard_base": True}, Split("vllm", 1, 4, 4, shared=True, shards_base=True)),
        (ATTACHED, {}, Split("vllm", 2, 1, 1, shared=False)),
        ({"type": "vllm"}, {"engines": 3, "gpus_per_engine": 2}, Split("vllm", 3, 2, 1, shared=False)),
        ({"type": "vllm"}, {"engines": 2, "gpus_per_engine": 0}, Split("vllm", 2, 1, 1, shared=False)),
    ],
)
def test_a_job_runs_on_the_split_that_its_fields_say(
    engine: dict[str, Any], cluster: dict[str, Any], split: Split
) -> None:
    assert said({"engine": engine, "cluster": cluster}) == split


def test_ranks_of_a_processor_share_it(round_device: Device) -> None:
    cpu = Device(**{**round_device.__dict__, "is_cpu": True})
    assert said({"engine": {}, "cluster": {"learner_workers": 2}}, cpu) == Split("embedded", 1, 1, 1, shared=True)


@pytest.mark.parametrize(("per_node", "nodes"), [(1, 1), (2, 1), (8, 1), (4, 2)])
@pytest.mark.parametrize("adapters", [False, True])
def test_what_a_plan_says_of_a_split_is_that_split(
    qwen3_8b: PlannedModel, qwen3_8b_lora: PlannedModel, step: Workload, per_node: int, nodes: int, adapters: bool
) -> None:
    model, cluster = qwen3_8b_lora if adapters else qwen3_8b, Cluster(H100, per_node, nodes)
    seen = 0
    for split in every_split(cluster, step, ("embedded", "vllm"), may_shard_base=adapters):
        fields = fields_of(plan_split(model, step, cluster, split, gpu_hour=1.0), cluster)
        if fields is None:
            assert split.shared and split.engines > 1
            continue
        seen += 1
        assert said(fields) == split
        spread = ClusterSpec(**fields.get("cluster", {}))
        assert (spread.address == "auto") == (split.used > per_node)
        assert spread.spread_learner == (split.ranks > per_node)
        # No GPU is an engine's and a rank's, unless they are to share it.
        if split.engine == "embedded" and not split.shared:
            assert fields["engine"]["device"] == f"cuda:{split.ranks}" and split.ranks < per_node
    assert seen


def test_a_server_on_the_learners_gpu_is_told_what_the_learner_leaves(
    qwen3_8b_lora: PlannedModel, step: Workload
) -> None:
    cluster = Cluster(H100)
    planned = plan_split(qwen3_8b_lora, step, cluster, Split("vllm", 1, 1, 1, shared=True), gpu_hour=1.0)
    fields = fields_of(planned, cluster)
    assert fields is not None
    words = fields["engine"]["command"].split()
    share = float(words[words.index("--gpu-memory-utilization") + 1])
    (memory,) = planned.memory
    others = sum(size for name, size in memory.parts.items() if name not in ("engine's weights", "keys and values"))
    assert 0 < share <= 1 - (others - memory.parts["engine's passes"]) / memory.capacity
