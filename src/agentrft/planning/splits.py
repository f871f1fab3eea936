"""Which of a number of GPUs are engines and which learn: every way, what each takes, and what it costs a step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrft.planning.efficiency import EMBEDDED_CPU, EMBEDDED_GPU, LEARNER_CPU, LEARNER_GPU, VLLM, EngineRates
from agentrft.planning.generation import Engines
from agentrft.planning.hardware import Device
from agentrft.planning.memory import DeviceMemory, EngineType, engine_memory, learner_memory, shared_memory
from agentrft.planning.model import PlannedModel
from agentrft.planning.times import Ranks, StepTimes, step_times
from agentrft.planning.workload import Workload
from agentrft.spec.cluster import MOST_LEARNER_WORKERS

HOUR = 3600
# Of more, thousands of splits would differ by little.
MOST_GPUS_ONE_BY_ONE = 16


@dataclass(frozen=True)
class Cluster:
    """What may be used.

    Attributes:
        device: of one kind.
        per_node: GPUs of a node.
        nodes: how many of these.
    """

    device: Device
    per_node: int = 1
    nodes: int = 1

    @property
    def gpus(self) -> int:
        return self.per_node * self.nodes

    def rented(self, used: int) -> int:
        """GPUs that are paid for: of one node those that are used, of several whole nodes."""
        return used if used <= self.per_node else -(-used // self.per_node) * self.per_node


@dataclass(frozen=True)
class Split:
    """One way to use GPUs.

    Attributes:
        engine: the type of the engines.
        engines: how many.
        per_engine: GPUs that share one (tensor parallelism).
        ranks: of the learner; where all weights are trained, with a part of them each.
        shared: whether engines and learner are on the same GPUs.
        shards_base: whether of the frozen weights under adapters, too, each rank has a part.
    """

    engine: EngineType
    engines: int
    per_engine: int
    ranks: int
    shared: bool
    shards_base: bool = False

    @property
    def used(self) -> int:
        """GPUs."""
        return self.ranks if self.shared else self.engines * self.per_engine + self.ranks

    @property
    def text(self) -> str:
        """In words."""
        many = f"{self.engines} {self.engine} engine{'s' if self.engines > 1 else ''}"
        wide = f" of {self.per_engine} GPUs" if self.per_engine > 1 else ""
        learner = f"learner on {self.ranks} GPU{'s' if self.ranks > 1 else ''}"
        base = ", its base divided" if self.shards_base else ""
        return (f"{many}{wide} on the learner's {self.ranks}" if self.shared else f"{many}{wide}, {learner}") + base


@dataclass(frozen=True)
class PlannedSplit:
    """A split with what it takes.

    Attributes:
        memory: of each kind of device.
        times: of a step.
        rented: GPUs that are paid for.
        gpu_cost: dollars of a step.
        engine_rates: of its engines.
    """

    split: Split
    memory: tuple[DeviceMemory, ...]
    times: StepTimes
    rented: int
    gpu_cost: float
    engine_rates: EngineRates

    @property
    def fits(self) -> bool:
        return all(one.fits for one in self.memory)

    @property
    def gpu_hours(self) -> float:
        """Of a step."""
        return self.rented * self.times.total / HOUR

    def as_dict(self) -> dict[str, Any]:
        return {
            "split": self.split.text,
            "engine": self.split.engine,
            "engines": self.split.engines,
            "gpus_per_engine": self.split.per_engine,
            "learner_ranks": self.split.ranks,
            "shared": self.split.shared,
            "shards_base": self.split.shards_base,
            "gpus_used": self.split.used,
            "gpus_rented": self.rented,
            "fits": self.fits,
            "memory": [one.as_dict() for one in self.memory],
            "seconds": self.times.as_dict(),
            "gpu_hours_per_step": self.gpu_hours,
            "gpu_cost_per_step": self.gpu_cost,
        }


def every_split(
    cluster: Cluster, work: Workload, types: Sequence[EngineType], *, may_shard_base: bool
) -> Iterator[Split]:
    """Every way that differs: engines of 1, 2, 4, … GPUs within a node, and any number of GPUs up to all; of more than
    `MOST_GPUS_ONE_BY_ONE`, numbers up to a node's, whole nodes, and what is left. A job has one embedded engine, on a
    GPU that it shares with the only rank, or on the one behind those of the ranks.

    Args:
        may_shard_base: whether several ranks may have a part of the base each; all splits are without that, too.
    """
    for split in _whole_bases(cluster, work, types):
        yield split
        if may_shard_base and split.ranks > 1:
            yield replace(split, shards_base=True)


def _whole_bases(cluster: Cluster, work: Workload, types: Sequence[EngineType]) -> Iterator[Split]:
    widths = [width for width in (1, 2, 4, 8, 16) if width <= cluster.per_node]
    # More ranks than rollouts would have nothing to do.
    counts = _counts(cluster, min(cluster.gpus, work.rollouts, MOST_LEARNER_WORKERS))
    if "embedded" in types:
        yield Split("embedded", 1, 1, 1, shared=True)
        yield from (Split("embedded", 1, 1, ranks, shared=False) for ranks in counts if ranks < cluster.per_node)
    if "vllm" in types:
        for width in widths:
            for ranks in counts:
                if ranks % width == 0:
                    yield Split("vllm", ranks // width, width, ranks, shared=True)
                for engine_gpus in _counts(cluster, cluster.gpus - ranks):
                    if engine_gpus % width == 0:
                        yield Split("vllm", engine_gpus // width, width, ranks, shared=False)


def _counts(cluster: Cluster, most: int) -> list[int]:
    """Numbers of GPUs that are tried."""
    if cluster.gpus <= MOST_GPUS_ONE_BY_ONE:
        return list(range(1, most + 1))
    inside = range(1, min(most, cluster.per_node) + 1)
    nodes = range(cluster.per_node, most + 1, cluster.per_node)
    return sorted({*inside, *nodes, most} - {0})


def plan_split(model: PlannedModel, work: Workload, cluster: Cluster, split: Split, *, gpu_hour: float) -> PlannedSplit:
    """What a split takes of memory, time and money.

    Args:
        gpu_hour: dollars of one GPU.
    """
    device = cluster.device
    if split.shared:
        both = shared_memory(
            model,
            work,
            device,
            engine=split.engine,
            ranks=split.ranks,
            per_engine=split.per_engine,
            shards_base=split.shards_base,
        )
        memory, generates, learns = (both,), both, both
    else:
        generates = engine_memory(
            model, work, device, engine=split.engine, count=split.engines, per_engine=split.per_engine
        )
        learns = learner_memory(model, work, device, split.ranks, shards_base=split.shards_base)
        memory = (generates, learns)
    is_vllm = split.engine == "vllm"
    rates = engine_rates(split.engine, device)
    learner = LEARNER_CPU if device.is_cpu else LEARNER_GPU
    times = step_times(
        model,
        work,
        device,
        engines=Engines(split.engines, split.per_engine, max(1, generates.sequences), rates),
        ranks=Ranks(
            split.ranks,
            learner,
            learns.recomputes,
            crosses_nodes=split.ranks > cluster.per_node,
            shards_base=split.shards_base,
        ),
        shared=split.shared,
        publishing="files" if is_vllm else "in_process",
        sleeps=is_vllm and split.shared,
    )
    rented = cluster.rented(split.used)
    return PlannedSplit(split, memory, times, rented, rented * gpu_hour * times.total / HOUR, rates)


def planned_splits(
    model: PlannedModel, work: Workload, cluster: Cluster, types: Sequence[EngineType], *, gpu_hour: float
) -> list[PlannedSplit]:
    """All of them, those that fit first, by what a step costs; equal ones by how long it takes.

    Each is planned as rollouts would run there: where engines and learner are apart and the job samples ahead, both
    work at once.
    """
    splits = every_split(cluster, work, types, may_shard_base=model.can_shard_base)
    found = [plan_split(model, work, cluster, one, gpu_hour=gpu_hour) for one in splits]
    return sorted(found, key=lambda one: (not one.fits, one.gpu_cost, one.times.total, one.split.used))


def engine_rates(engine: EngineType, device: Device) -> EngineRates:
    """Of an engine's type on a device."""
    if engine == "vllm":
        return VLLM
    return EMBEDDED_CPU if device.is_cpu else EMBEDDED_GPU
