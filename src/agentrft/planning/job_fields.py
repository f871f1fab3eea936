"""A split and the fields of a job file that say it, both ways."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from agentrft.planning.hardware import Device
from agentrft.planning.splits import Cluster, PlannedSplit, Split
from agentrft.spec.cluster import ClusterSpec
from agentrft.spec.engine import EngineSpec

TENSOR_PARALLEL = "--tensor-parallel-size"
TENSOR_PARALLEL_NAMES = (TENSOR_PARALLEL, "-tp")
OF_SERVERS = ("engine's weights", "engine's passes", "keys and values")


def split_of(engine: EngineSpec, cluster: ClusterSpec, device: Device) -> Split:
    """The split that a job with these fields runs on. On a processor its ranks share what one would have."""
    ranks = 1 if device.is_cpu else cluster.learner_workers
    divided = cluster.shard_base and ranks > 1
    if cluster.engines:
        return Split("vllm", cluster.engines, max(1, cluster.gpus_per_engine), ranks, False, divided)
    if engine.type == "vllm":
        servers = max(1, len(engine.server_urls))
        return Split("vllm", servers, _tensor_parallel(engine.command), ranks, engine.sleep, divided)
    return Split("embedded", 1, 1, ranks, engine.device in ("auto", "cpu", "cuda", "cuda:0"), divided)


def fields_of(planned: PlannedSplit, cluster: Cluster) -> dict[str, Any] | None:
    """What a job file says to run on a split, beside the rest of it; None where servers of the user's own are needed,
    since a job starts no more than one on the learner's GPUs.
    """
    split = planned.split
    if split.shared and split.engines > 1:
        return None
    engine: dict[str, Any] = {"type": split.engine}
    spread: dict[str, Any] = {}
    if split.engine == "embedded":
        if not split.shared:
            engine["device"] = f"cuda:{split.ranks}"
    else:
        options = [TENSOR_PARALLEL, str(split.per_engine)] if split.per_engine > 1 else []
        if split.shared:
            engine["sleep"] = True
            options += ["--gpu-memory-utilization", f"{_server_share(planned):.2f}"]
        else:
            spread["engines"] = split.engines
            if split.per_engine > 1:
                spread["gpus_per_engine"] = split.per_engine
        if options:
            engine["command"] = " ".join(["vllm serve", *options])
    if split.ranks > 1:
        spread["learner_workers"] = split.ranks
    if split.shards_base:
        spread["shard_base"] = True
    if split.ranks > cluster.per_node:
        spread["spread_learner"] = True
    if split.used > cluster.per_node:
        spread["address"] = "auto"
    return {"engine": engine, "cluster": spread} if spread else {"engine": engine}


def _server_share(planned: PlannedSplit) -> float:
    """Of a GPU's memory, rounded down: what a server on it takes for itself."""
    (device,) = planned.memory
    return int(100 * sum(device.parts.get(name, 0) for name in OF_SERVERS) / device.capacity) / 100


def _tensor_parallel(command: Sequence[str]) -> int:
    """GPUs that a server started so has; 1 where it does not say, or says what is no number."""
    words = [part for word in command for part in word.split("=", 1)]
    found = [value for name, value in pairwise(words) if name in TENSOR_PARALLEL_NAMES]
    return int(found[-1]) if found and found[-1].isdecimal() and int(found[-1]) else 1
