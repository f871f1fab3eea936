"""What is in a device's memory at its fullest, part by part."""

from dataclasses import dataclass, field
from typing import Any, Literal

from agentrft.engine.kv_cache import bytes_per_page, bytes_per_slot
from agentrft.engine.pages import pages_of
from agentrft.job.memory_budget import KV_CACHE_SHARE
from agentrft.job.memory_needs import pass_bytes
from agentrft.job.training_state import TrainingState
from agentrft.learner.optimizer import CPU_TOKENS_PER_PASS, TOKENS_PER_PASS
from agentrft.models.layouts import MEMORY_SHARE
from agentrft.planning.efficiency import CPU_PROCESS_BYTES, GPU_PROCESS_BYTES, VLLM_MEMORY_SHARE, VLLM_PASS_BYTES
from agentrft.planning.hardware import Device
from agentrft.planning.model import PlannedModel
from agentrft.planning.workload import Workload

Role = Literal["both", "engine", "learner"]
EngineType = Literal["embedded", "vllm"]
# Of sharded weights, layers that a device has whole at a time: the one that is computed and the next.
GATHERED_LAYERS = 2
GB = 1e9


@dataclass(frozen=True)
class DeviceMemory:
    """One device of a kind.

    Attributes:
        role: what it does.
        devices: how many of the kind there are.
        parts: bytes by what they are for.
        capacity: what the device has.
        recomputes: whether an update computes its layers again in the backward pass.
        sequences: rollouts of the mean length that keys and values hold at once; 0 without an engine.
        longest: rollouts of the longest that they hold.
        faults: why it does not fit, and what to change.
    """

    role: Role
    devices: int
    parts: dict[str, int]
    capacity: int
    recomputes: bool = False
    sequences: int = 0
    longest: int = 0
    faults: tuple[tuple[str, str], ...] = field(default_factory=tuple)

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def spare(self) -> int:
        """What is left; less than nothing where it does not fit."""
        return self.capacity - self.total

    @property
    def fits(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "devices": self.devices,
            "parts": self.parts,
            "total": self.total,
            "capacity": self.capacity,
            "spare": self.spare,
            "fits": self.fits,
            "recomputes": self.recomputes,
            "sequences_at_once": self.sequences,
            "longest_at_once": self.longest,
            "faults": [{"cause": cause, "remedy": remedy} for cause, remedy in self.faults],
        }


def learner_parts(
    model: PlannedModel, work: Workload, device: Device, ranks: int, *, shards_base: bool = False
) -> tuple[dict[str, int], bool]:
    """What a learner keeps on each of its devices, and whether its passes compute their layers again.

    Where all weights are trained, several ranks have a part of these, of masters, gradients and moments each, and some
    layers whole meanwhile. Adapters are whole on each, and so is the model, unless `shards_base`. Those of a Llama-like
    model that is whole are computed with weights that they are merged into: a second copy.
    """
    state = TrainingState.of(model.trained, model.dtype, all_weights=model.lora_rank is None)
    divided = ranks > 1 and (state.all_weights or shards_base)
    trained_by = ranks if state.all_weights else 1
    merged = not state.all_weights and model.architecture.path == "fast" and not divided
    update, recomputes = pass_bytes(model.costs, _pass_tokens(model, work, device), memory=device.memory)
    parts = {
        "weights": -(-model.weights // (ranks if divided else 1)),
        "merged weights": _linear_bytes(model) if merged else 0,
        "gathered layers": _gathered(model) if divided else 0,
        "adapters": 0 if state.all_weights else state.weights,
        "masters": -(-state.masters // trained_by),
        "gradients": -(-state.gradients // trained_by),
        "moments": -(-state.optimizer // trained_by),
        "activations": update,
    }
    if device.is_cpu and merged and model.itemsize == 2 and model.weights <= MEMORY_SHARE * device.memory:
        parts["laid out weights"] = _linear_bytes(model) + model.head_weights * model.itemsize
    return {name: size for name, size in parts.items() if size}, recomputes


def shared_memory(
    model: PlannedModel,
    work: Workload,
    device: Device,
    *,
    engine: EngineType,
    ranks: int,
    per_engine: int,
    shards_base: bool = False,
) -> DeviceMemory:
    """Of devices that do both. On a GPU keys and values are gone during an update, and activations during rollouts, so
    that the larger of the two counts; a process on a CPU keeps what activations once took. A vLLM server sleeps during
    updates, with its weights.
    """
    parts, recomputes = learner_parts(model, work, device, ranks, shards_base=shards_base)
    activations = parts.pop("activations")
    resident = sum(parts.values()) + _process(device)
    if engine == "embedded":
        if _needs_copy(model, work):
            parts["engine's weights"] = model.weights
            resident += model.weights
        budget = min(_embedded_budget(work, device), max(0, device.memory - resident))
        cache = _used_cache(model, work, device, budget)
        beside = cache if device.is_cpu else max(cache, activations)
        parts |= {"keys and values": cache, "activations": activations if device.is_cpu else beside - cache}
    else:
        weights = -(-model.weights // per_engine)
        budget = int(VLLM_MEMORY_SHARE * device.memory) - resident - weights - VLLM_PASS_BYTES
        cache = _cache_bytes(model, work, max(0, budget), devices=ranks)
        asleep = weights + VLLM_PASS_BYTES + cache
        parts |= {"engine's weights": weights, "engine's passes": VLLM_PASS_BYTES, "keys and values": cache}
        parts["activations"] = max(0, activations - asleep)
    parts["process"] = _process(device)
    return _device(model, work, "both", ranks, parts, device, recomputes=recomputes, budget=budget, ways=per_engine)


def engine_memory(
    model: PlannedModel, work: Workload, device: Device, *, engine: EngineType, count: int, per_engine: int
) -> DeviceMemory:
    """Of devices that only generate."""
    weights = -(-model.weights // per_engine)
    parts = {"engine's weights": weights, "process": _process(device)}
    if engine == "embedded":
        budget = min(_embedded_budget(work, device), max(0, device.memory - sum(parts.values())))
        cache = _used_cache(model, work, device, budget)
    else:
        parts["engine's passes"] = VLLM_PASS_BYTES
        budget = int(VLLM_MEMORY_SHARE * device.memory) - sum(parts.values())
        cache = _cache_bytes(model, work, max(0, budget), devices=count * per_engine)
    parts["keys and values"] = cache
    return _device(
        model, work, "engine", count * per_engine, parts, device, recomputes=False, budget=budget, ways=per_engine
    )


def learner_memory(
    model: PlannedModel, work: Workload, device: Device, ranks: int, *, shards_base: bool = False
) -> DeviceMemory:
    """Of devices that only update."""
    parts, recomputes = learner_parts(model, work, device, ranks, shards_base=shards_base)
    parts["process"] = _process(device)
    return _device(model, work, "learner", ranks, parts, device, recomputes=recomputes, budget=None, ways=1)


def _device(
    model: PlannedModel,
    work: Workload,
    role: Role,
    devices: int,
    parts: dict[str, int],
    device: Device,
    *,
    recomputes: bool,
    budget: int | None,
    ways: int,
) -> DeviceMemory:
    """With what of it does not fit."""
    parts = {name: size for name, size in parts.items() if size}
    faults: list[tuple[str, str]] = []
    over = sum(parts.values()) - device.memory
    if over > 0:
        largest = max((name for name in parts if name != "process"), key=lambda name: parts[name])
        faults.append(
            (
                f"{over / GB:.1f} GB more than the {device.memory / GB:.0f} GB of {device.name}, "
                f"of which {parts[largest] / GB:.1f} are for {largest}",
                _remedy(model, role, largest, device),
            )
        )
    sequences = longest = 0
    if budget is not None:
        room = max(0, budget) * ways
        sequences = room // max(1, _mean_slot(model, work))
        longest = room // max(1, bytes_per_slot(model.architecture.cache_shapes, work.context_tokens, model.itemsize))
        if longest < 1:
            faults.append(
                (
                    f"no room for keys and values of one rollout of {work.context_tokens:,} tokens "
                    f"({bytes_per_slot(model.architecture.cache_shapes, work.context_tokens, model.itemsize) / GB:.2f} "
                    f"GB; {max(0, budget) * ways / GB:.2f} GB are left for them)",
                    "Lower hyperparameters.max_context_tokens, spread an engine over more GPUs, or raise "
                    "engine.kv_cache_mb of the embedded one.",
                )
            )
    return DeviceMemory(role, devices, parts, device.memory, recomputes, int(sequences), int(longest), tuple(faults))


def _remedy(model: PlannedModel, role: Role, largest: str, device: Device) -> str:
    if device.is_cpu:
        return "Lower hyperparameters.max_context_tokens, take a smaller model, or a machine with more memory."
    if role == "engine":
        return "Spread an engine over more GPUs, or take GPUs with more memory."
    if largest == "activations":
        return "Lower hyperparameters.max_context_tokens, take more learner ranks, or GPUs with more memory."
    adapters = "" if model.lora_rank is not None else " train adapters (hyperparameters.lora_rank: 16),"
    return f"Take more learner ranks,{adapters} a smaller model, or GPUs with more memory."


def _process(device: Device) -> int:
    return CPU_PROCESS_BYTES if device.is_cpu else GPU_PROCESS_BYTES


def _pass_tokens(model: PlannedModel, work: Workload, device: Device) -> int:
    """Unique tokens of the largest pass: as many whole groups as are computed together, and one group at least; one
    that the memory has no room for is divided, down to single rollouts."""
    together = CPU_TOKENS_PER_PASS if device.is_cpu else TOKENS_PER_PASS
    groups = min(together // max(1.0, work.group_tokens), -(-work.groups // work.minibatches))
    whole = max(1.0, groups) * work.group_tokens
    if pass_bytes(model.costs, int(whole), memory=device.memory)[0] <= device.memory / 2:
        return int(whole)
    return min(int(whole), max(together, work.context_tokens))


def _linear_bytes(model: PlannedModel) -> int:
    return int(model.costs.weights) * model.itemsize


def _gathered(model: PlannedModel) -> int:
    layer = model.costs.weights / model.costs.layers
    return int(max(GATHERED_LAYERS * layer, model.head_weights)) * model.itemsize


def _needs_copy(model: PlannedModel, work: Workload) -> bool:
    """Whether the embedded engine has weights of its own on the learner's device: not where it computes with merged
    ones."""
    return work.runs_ahead or model.lora_rank is None or model.architecture.path != "fast"


def _embedded_budget(work: Workload, device: Device) -> int:
    return int(KV_CACHE_SHARE * device.memory) if work.kv_cache_bytes is None else work.kv_cache_bytes


def _mean_slot(model: PlannedModel, work: Workload) -> int:
    """Keys and values of a rollout of the mean length; its prompt counts with its group."""
    tokens = work.prompt_tokens / work.rollouts_per_group + work.own_per_rollout
    return pages_of(max(1, int(tokens))) * bytes_per_page(model.architecture.cache_shapes, model.itemsize) + (
        2 * model.architecture.cache_shapes.state_bytes
    )


def _used_cache(model: PlannedModel, work: Workload, device: Device, budget: int) -> int:
    """The embedded engine's: on a GPU what it is made for, on a processor what is written to."""
    at_once = min(work.rollouts, work.at_once)
    if device.is_cpu:
        return min(budget, at_once * _mean_slot(model, work))
    slot = bytes_per_slot(model.architecture.cache_shapes, work.context_tokens, model.itemsize)
    return min(budget, work.at_once * slot)


def _cache_bytes(model: PlannedModel, work: Workload, budget: int, *, devices: int) -> int:
    """A server takes all that it may; what rollouts can use of it at their longest is shown."""
    slot = bytes_per_slot(model.architecture.cache_shapes, work.context_tokens, model.itemsize)
    return min(budget, -(-min(work.rollouts, work.at_once) * slot // devices))
